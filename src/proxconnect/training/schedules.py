"""Schedules of the learning rate for a known number of steps, as is `CosineAnnealingLR` of torch."""

import inspect
import math
from collections.abc import Callable, Sequence

from torch.optim import Optimizer, lr_scheduler
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

ScheduleCallable = Callable[[Optimizer, int], LRScheduler]  # from an optimizer and the number of its steps

_LENGTHS = {"T_max", "T_0", "total_iters"}  # names in torch for the number of steps, the second argument of a schedule


def scheduled(make: ScheduleCallable, optimizer: Optimizer, steps: int) -> LRScheduler:
    """Return `make(optimizer, steps)`; ValueError if that shows that its second argument is not a number of steps."""
    try:
        schedule = make(optimizer, steps)
    except TypeError as error:
        raise ValueError(f"no schedule of an optimizer and a number of steps: {error}: {_ADVICE}") from error
    taken = list(inspect.signature(type(schedule)).parameters)[1]
    is_torchs = type(schedule).__module__ == lr_scheduler.__name__
    if is_torchs and taken not in _LENGTHS and getattr(schedule, taken, None) == steps:
        raise ValueError(f"{type(schedule).__name__} takes {taken} second, not a number of steps: {_ADVICE}")
    return schedule


_ADVICE = "take CosineAnnealingLR or PolynomialLR of torch, or a class of proxconnect.training.schedules"


class Constant(LambdaLR):
    """A schedule that leaves the learning rate unchanged; `steps` has no effect."""

    def __init__(self, optimizer: Optimizer, steps: int) -> None:
        super().__init__(optimizer, lambda step: 1.0)


class Cosine(LambdaLR):
    """A schedule that rises linearly to the optimizer's learning rate if `warmup` > 0, then falls along half a cosine.

    Args:
        optimizer: its learning rate is the peak.
        steps: optimizer steps of the run.
        warmup: the share of all steps in which it rises.
        floor: the learning rate at the end, as a share of the peak.
    """

    def __init__(self, optimizer: Optimizer, steps: int, warmup: float = 0.0, floor: float = 0.0) -> None:
        rising = math.ceil(warmup * steps)

        def factor(step: int) -> float:
            if step < rising:
                return (step + 1) / (rising + 1)
            done = min(1.0, (step - rising) / max(1, steps - rising))
            return floor + (1 - floor) * (1 + math.cos(math.pi * done)) / 2

        super().__init__(optimizer, factor)


class Steps(LambdaLR):
    """A schedule that multiplies the learning rate by `gamma` at certain steps.

    Args:
        optimizer: its learning rate is the first one.
        steps: optimizer steps of the run.
        at: when to multiply, as shares of all steps.
        gamma: the factor.
    """

    def __init__(self, optimizer: Optimizer, steps: int, at: Sequence[float] = (0.5, 0.75), gamma: float = 0.1) -> None:
        places = [share * steps for share in at]
        super().__init__(optimizer, lambda step: gamma ** sum(step >= place for place in places))
