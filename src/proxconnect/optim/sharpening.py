"""The schedule of the sharpness μ, which moves with the steps of an optimizer."""

import math
from typing import Any, Literal, NamedTuple, get_args
from weakref import WeakKeyDictionary, WeakValueDictionary

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from proxconnect._support.arguments import number, whole
from proxconnect.layers import BinaryLayer
from proxconnect.layers.living import SCHEDULES
from proxconnect.optim.latents import (
    learning_rate,
    require_learning_rates,
    skipped,
    stepped_layers,
    takes_effect,
    unwrapped,
)
from proxconnect.pairs import Sharpness
from proxconnect.quantizer import Quantizer

Shape = Literal["exponential", "linear", "cosine", "constant", "cumulative"]
Part = Literal["weights", "activations", "both"]

_PARTS: dict[Part, set[str]] = {part: set(SCHEDULES[f"sharpening_{part}"]) for part in get_args(Part)}
_attached: "WeakKeyDictionary[Optimizer, WeakValueDictionary[str, Sharpening]]" = WeakKeyDictionary()


class _Course(NamedTuple):
    """A quantizer, the start and end of its μ (None: no end), and the index of its latent's parameter group."""

    quantizer: Quantizer
    start: float
    end: float | None
    group: int


class Sharpening:
    """A schedule that moves μ after every step of `optimizer`, from a soft start to a sharp end.

    Let p be the completed share of `steps - hold`. Then μ is start·(end/start)^p ("exponential"),
    start + (end - start)·p ("linear"), that with (1 - cos πp)/2 for p ("cosine"), or start ("constant"). It stays at
    `end` for the last `hold` steps and after. "cumulative" is the schedule of the theory: μ_t = start + Σ_{τ<t} η_τ
    with the learning rates of the latent's group, capped at `end` if you give one.

    The count is in `optimizer.param_groups[0]`: a checkpoint of the optimizer holds the schedule, and
    `optimizer.load_state_dict` restores μ. A step counts when the optimizer steps: once for accumulated gradients or
    for several calls of a closure, and not if GradScaler skips it. A fused optimizer skips a step on the device, so the
    count is a tensor there until someone reads or saves it: no step waits for the device.

    A pair with a fixed μ, such as bnn+, stays at it unless you name a start or an end. A missing one of the two is then
    the usual one. Name both, as `start=0.1, end=30`, to train bnn+ with the schedule of bnn++.

    Weight decay acts on the latents w*, not on the ±α that the network uses. It pulls latents to 0, where signs flip.

    Args:
        optimizer: any optimizer, or a wrapper of Accelerate or Lightning. It moves μ of the layers whose latents this
            optimizer holds; make one Sharpening per optimizer.
        model: the binarized model.
        steps: optimizer steps until μ reaches its end, `hold` included; not for "constant" and "cumulative".
        start, end: the range of μ. If both are None, pairs with a fixed μ do not move; see `Sharpness.fixed`. Otherwise
            None takes each quantizer's usual value; for "cumulative" the start is then 1, and there is no end.
        shape: one of "exponential", "linear", "cosine", "constant", "cumulative".
        hold: the number of last `steps` that stay at `end`.
        part: the pairs that move: those of the "weights", of the "activations", or "both".

    Raises:
        ValueError: the model has no binary layer, the optimizer holds none of their latents or has a Sharpening of such
            a part, there are no binary activations to move, the start or end lies outside a pair's domain, the end is
            below the start, a μ is on the meta device, the arguments make no schedule, or "cumulative" finds no
            learning rate.
        TypeError: an argument has another type, as a float for `steps`.

    Example:
        >>> model = pc.binarize(nn.Sequential(nn.Linear(4, 4)), "pc", keep=None)
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> sharpening = pc.Sharpening(optimizer, model, steps=4, start=1.0, end=16.0)
        >>> for _ in range(4):
        ...     optimizer.step()
        ...     print(model[0].weight_quantizer.mu.item())
        2.0
        4.0
        8.0
        16.0
    """

    def __init__(
        self, optimizer: Optimizer, model: nn.Module, *, steps: int | None = None, start: float | None = None,
        end: float | None = None, shape: Shape = "exponential", hold: int = 0, part: Part = "weights",
    ) -> None:  # fmt: skip
        start, end = (None if mu is None else number(mu, name) for name, mu in (("start", start), ("end", end)))
        steps, hold = None if steps is None else whole(steps, "steps", 1), whole(hold, "hold", 0)
        _require_sense(shape, part, steps, end, hold)
        self.optimizer = optimizer = unwrapped(optimizer)
        self.shape: Shape = shape
        self.part: Part = part
        self.steps, self.hold = steps, hold
        self._key, self._travelled = f"sharpening_{part}", f"sharpening_{part}_travelled"
        layers = stepped_layers(optimizer, model)
        self._courses = self._plan(layers, start, end)
        if shape == "cumulative":
            require_learning_rates(optimizer, {course.group for course in self._courses}, "shape 'cumulative'")
        attached = _attached.setdefault(optimizer, WeakValueDictionary())
        for taken, other in attached.items():
            if _PARTS[other.part] & _PARTS[part]:
                raise ValueError(
                    f"this optimizer already has a Sharpening of part {taken!r}, which would count each step twice: "
                    "call its remove() first"
                )
        attached[part] = self
        optimizer.param_groups[0].setdefault(self._key, 0)  # distributed checkpoints load existing keys only
        if shape == "cumulative":
            for group in optimizer.param_groups:
                group.setdefault(self._travelled, 0.0)
        for course in self._courses:
            course.quantizer.scheduled = True
        self._hooks = (
            optimizer.register_step_post_hook(self._after_step),
            optimizer.register_load_state_dict_post_hook(self._after_load),
            optimizer.register_state_dict_pre_hook(self._before_save),
        )
        self._apply()

    @property
    def step_count(self) -> int:
        """The number of optimizer steps counted so far, with those of a loaded checkpoint; 0 after `remove()`."""
        return int(self._count)

    @property
    def progress(self) -> float:
        """The completed share of `steps - hold`, in [0, 1]; 0 without `steps`."""
        return float(self._share)

    @property
    def mu(self) -> float | None:
        """The sharpness μ now, read from its device; of several that differ the least; None if no pair has one."""
        return min((float(course.quantizer.mu) for course in self._courses), default=None)

    def __repr__(self) -> str:
        length = "" if self.steps is None else f" of {self.steps}"
        mu = "" if self.mu is None else f", μ = {self.mu:.3g}"
        return f"<Sharpening of {self.part}: {self.shape}, step {self.step_count}{length}{mu}>"

    def remove(self) -> None:
        """Stop moving μ, which keeps its value, and delete the step count from the optimizer's groups."""
        for hook in self._hooks:
            hook.remove()
        attached = _attached.get(self.optimizer)
        if attached is None or attached.get(self.part) is not self:  # removed already
            return
        del attached[self.part]
        for group in self.optimizer.param_groups:
            for key in (self._key, self._travelled):
                group.pop(key, None)
        for course in self._courses:
            course.quantizer.scheduled = False

    def _plan(self, layers: dict[str, BinaryLayer], start: float | None, end: float | None) -> list[_Course]:
        group_of = {id(p): i for i, group in enumerate(self.optimizer.param_groups) for p in group["params"]}
        courses, quantised = [], False
        for name, layer in layers.items():
            for quantizer in (q for part, q in layer.quantizers.items() if part in _PARTS[self.part]):
                quantised, domain = True, quantizer.sharpness
                if domain is None:
                    continue
                if quantizer.mu.is_meta:
                    raise ValueError(f"{name}: μ is on the meta device and cannot move: materialise the model first")
                quantizer.require_plausible_mu()
                usual = self._usual_range(domain, is_named=start is not None or end is not None)
                owner = f"{name}: pair {quantizer.pair.name!r}"
                first = quantizer.require_mu(usual[0] if start is None else start, owner)
                last = usual[1] if end is None else quantizer.require_mu(end, owner)
                if self.shape != "constant" and last is not None and last < first:
                    raise ValueError(
                        f"{name}: μ would fall from {first:g} to {last:g}, so soften: give an end that is not below "
                        "the start"
                    )
                courses.append(_Course(quantizer, first, last, group_of[id(layer.latent)]))
        if not quantised:
            raise ValueError("no layer has binary activations: pass activations= to binarize(), or part='weights'")
        return courses

    def _usual_range(self, domain: Sharpness, is_named: bool) -> tuple[float, float | None]:
        """Return the start and end for arguments that are None; `is_named` says that one of them is not."""
        if domain.fixed is not None and not is_named:
            return domain.fixed, domain.fixed
        return (1.0, None) if self.shape == "cumulative" else (domain.start, domain.end)

    @property
    def _count(self) -> int | Tensor:
        count: int | Tensor = self.optimizer.param_groups[0].get(self._key, 0)
        return count

    @property
    def _share(self) -> float | Tensor:
        return 0.0 if self.steps is None else _capped(self._count / (self.steps - self.hold), 1.0)

    @torch.no_grad()
    def _apply(self) -> None:
        share = self._share
        for course in self._courses:
            course.quantizer.mu.fill_(self._mu(course, share))

    def _mu(self, course: _Course, p: float | Tensor) -> float | Tensor:
        start, end = course.start, course.end
        if self.shape == "cumulative":
            mu: float | Tensor = start + self.optimizer.param_groups[course.group].get(self._travelled, 0.0)
            return mu if end is None else _capped(mu, end)
        if self.shape == "constant" or end is None:
            return start
        if self.shape == "exponential":
            sharper: float | Tensor = start * (end / start) ** p
            return sharper
        if self.shape == "cosine":
            p = (1 - (torch.cos(math.pi * p) if isinstance(p, Tensor) else math.cos(math.pi * p))) / 2
        return start + (end - start) * p

    def _after_step(self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if not takes_effect(optimizer, kwargs):
            return
        if torch.cuda.is_available() and torch.cuda.is_current_stream_capturing():
            raise RuntimeError(
                "a captured step would repeat one value of μ: capture the forward and backward passes alone, and call "
                "optimizer.step() after each replay"
            )
        skip = skipped(optimizer)
        counts = 1 if skip is None else (skip == 0).to(torch.float32 if skip.is_mps else torch.float64)
        optimizer.param_groups[0][self._key] = self._count + counts
        if self.shape == "cumulative":
            for group in optimizer.param_groups:
                group[self._travelled] = group.get(self._travelled, 0.0) + (learning_rate(group) or 0.0) * counts
        self._apply()

    def _before_save(self, optimizer: Optimizer) -> None:
        optimizer.param_groups[0][self._key] = self.step_count
        if self.shape == "cumulative":
            for group in optimizer.param_groups:
                group[self._travelled] = float(group.get(self._travelled, 0.0))

    def _after_load(self, optimizer: Optimizer) -> None:
        self._apply()


def _capped(value: float | Tensor, most: float) -> float | Tensor:
    return value.clamp(max=most) if isinstance(value, Tensor) else min(most, value)


def _require_sense(shape: str, part: str, steps: int | None, end: float | None, hold: int) -> None:
    """Raise ValueError for arguments that make no schedule for any model."""
    shapes = get_args(Shape)
    if shape not in shapes:
        raise ValueError(f"unknown shape {shape!r}: known are {', '.join(shapes)}")
    if part not in get_args(Part):
        raise ValueError(f"unknown part {part!r}: known are {', '.join(_PARTS)}")
    if shape == "constant" and end is not None:
        raise ValueError("a constant sharpness has a start and no end; choose another shape to move it")
    if shape in ("constant", "cumulative"):
        if steps is not None or hold:
            raise ValueError(f"shape {shape!r} takes neither steps nor hold: leave them out")
        return
    if steps is None:
        raise ValueError(f"shape {shape!r} needs steps=, the number of optimizer steps of the run")
    if hold >= steps:
        raise ValueError(f"hold must be from 0 to steps - 1 = {steps - 1}; got {hold}")
