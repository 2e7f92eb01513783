"""Callables of one tensor that someone else wrote, checked before anything rests on them."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

Function = Callable[[Tensor], Tensor]


class ProbeError(ValueError):
    """A callable is not a function of one real variable, applied to each entry; the message says what to change."""


@dataclass(frozen=True)
class BlackBox:
    """A callable whose every answer is checked: a finite float64 tensor of the shape that it was given."""

    name: str
    function: Function

    def __call__(self, x: Tensor) -> Tensor:
        """The values at `x`, float64; ProbeError where there are none."""
        given = x.clone()
        try:
            values = self.function(given)
        except Exception as error:
            raise ProbeError(
                f"{self.name} raised {type(error).__name__} for a float64 tensor of shape {tuple(x.shape)}: {error}"
            ) from error
        self._require_like(x, values)
        if not torch.equal(given, x):
            raise ProbeError(f"{self.name} changes the tensor that it is given: let it work on a copy")
        values = values.detach()
        if not bool(values.isfinite().all()):
            self._refuse_infinite(x, values)
        return values

    def _require_like(self, x: Tensor, values: object) -> None:
        if not isinstance(values, Tensor):
            raise ProbeError(f"{self.name} must return a tensor; got {type(values).__name__}")
        if values.shape != x.shape:
            raise ProbeError(
                f"{self.name} must keep the shape of its input: got {tuple(values.shape)} for {tuple(x.shape)}"
            )
        if values.dtype != x.dtype:
            raise ProbeError(
                f"{self.name} must keep the dtype of its input: got {values.dtype} for {x.dtype}; return .to(x.dtype)"
            )

    def _refuse_infinite(self, x: Tensor, values: Tensor) -> None:
        kind, wrong = ("NaN", values.isnan()) if bool(values.isnan().any()) else ("infinite", values.isinf())
        at = x[wrong]
        raise ProbeError(
            f"{self.name} is {kind} at {int(wrong.sum())} of {x.numel()} points, from x = {float(at.min()):.6g} to "
            f"{float(at.max()):.6g}: write it in a form that does not overflow, or narrow domain=(low, high)"
        )


def probed(function: Function, name: str, low: float, high: float) -> BlackBox:
    """`function` after a trial on [low, high]: the same answer twice, and at each entry whatever its neighbours are."""
    if not callable(function):
        raise TypeError(f"{name} must be a callable of one tensor; got {type(function).__name__}")
    box = BlackBox(name, function)
    spread = torch.linspace(-1.0, 1.0, 60, dtype=torch.float64)
    x = torch.cat([spread * min(4.0, -low, high) if low < 0 < high else spread, spread * (high - low) / 2])
    x = x.clamp(low, high)
    once = box(x)
    if not torch.equal(box(x), once):
        raise ProbeError(f"{name} gives two answers for one input: a quantiser cannot be random, or remember")
    others = {"in a row": box(x.flip(0)).flip(0), "alone": torch.cat([box(x[i : i + 1]) for i in range(0, len(x), 7)])}
    others["in a matrix"] = box(x.reshape(8, 15)).reshape(-1)
    for how, values in others.items():
        expected = once[::7] if how == "alone" else once
        if not torch.allclose(values, expected, rtol=1e-12, atol=1e-14):
            raise ProbeError(
                f"{name} mixes entries: it gives an entry another value {how} than among others; a quantiser acts on "
                "each entry by itself (a mean over the tensor belongs into the scale)"
            )
    return box


def autograd_derivative(function: Function) -> Function:
    """B as autograd has it: the factor between the gradient of the value and that of the input.

    `function` may be the `apply` of any `torch.autograd.Function`, which `torch.func` takes only in its newer form.
    """
    return _AutogradFactor(function)


@dataclass(frozen=True)
class _AutogradFactor:
    """An object, not a closure, so that a pair that keeps it can be pickled."""

    function: Function

    def __call__(self, x: Tensor) -> Tensor:
        with torch.enable_grad():
            leaf = x.detach().requires_grad_()
            values = self.function(leaf)
            if not values.requires_grad:
                return torch.zeros_like(x)
            (gradient,) = torch.autograd.grad(values, leaf, torch.ones_like(values), allow_unused=True)
        return torch.zeros_like(x) if gradient is None else gradient
