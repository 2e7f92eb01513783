"""Learning rates over a run whose number of steps is known.

Each class takes the optimizer and the number of optimizer steps first, as `torch.optim.lr_scheduler.CosineAnnealingLR`
and `PolynomialLR` do, which serve as well.
"""

import math
from collections.abc import Callable, Sequence

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

ScheduleCallable = Callable[[Optimizer, int], LRScheduler]
"""From an optimizer and the number of its steps to a schedule that is moved after each of them."""


class Constant(LambdaLR):
    """The learning rate of the optimizer, throughout."""

    def __init__(self, optimizer: Optimizer, steps: int) -> None:
        super().__init__(optimizer, lambda step: 1.0)


class Cosine(LambdaLR):
    """A linear rise over the first share `warmup` of all steps, then half a cosine down to `floor` times the peak."""

    def __init__(self, optimizer: Optimizer, steps: int, warmup: float = 0.0, floor: float = 0.0) -> None:
        rising = math.ceil(warmup * steps)

        def factor(step: int) -> float:
            if step < rising:
                return (step + 1) / (rising + 1)
            done = min(1.0, (step - rising) / max(1, steps - rising))
            return floor + (1 - floor) * (1 + math.cos(math.pi * done)) / 2

        super().__init__(optimizer, factor)


class Steps(LambdaLR):
    """The learning rate times `gamma` at each of the shares `at` of all steps, as [0.5, 0.75]."""

    def __init__(self, optimizer: Optimizer, steps: int, at: Sequence[float] = (0.5, 0.75), gamma: float = 0.1) -> None:
        places = [share * steps for share in at]
        super().__init__(optimizer, lambda step: gamma ** sum(step >= place for place in places))
