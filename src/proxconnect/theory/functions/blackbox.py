"""Callables of one tensor that somebody else wrote, checked before anything rests on them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeGuard

import torch
from torch import Tensor

from proxconnect._support.arguments import require_callable
from proxconnect.pairs.probing import ProbeError, answer

Function = Callable[[Tensor], Tensor]


class NotFiniteError(ProbeError):
    """The error for a callable that is NaN or infinite somewhere."""


@dataclass(frozen=True)
class BlackBox:
    """A callable of one tensor, called `name` in messages, whose values are checked at each call."""

    name: str
    function: Function

    def __call__(self, x: Tensor) -> Tensor:
        """Return the values at the float64 tensor `x`, detached; ProbeError unless finite, of its shape and dtype."""
        values = answer(self.name, self.function, x)
        for kind, wrong in ("NaN", values.isnan()), ("infinite", values.isinf()):
            if len(at := x[wrong]):
                raise NotFiniteError(
                    f"{self.name} is {kind} at {len(at)} of {x.numel()} points, from x = {float(at.min()):.6g} to "
                    f"{float(at.max()):.6g}: write it in a form that does not overflow"
                )
        return values.detach()


def probed(function: Function, name: str, low: float, high: float) -> BlackBox:
    """Return `function` as a `BlackBox`; ProbeError if probes in [low, high] fail, are random or mix entries."""
    require_callable(function, f"{name} must be a callable of one tensor")
    box = BlackBox(name, function)
    spread = torch.linspace(-1.0, 1.0, 60, dtype=torch.float64)
    x = torch.cat([spread * min(4.0, -low, high) if low < 0 < high else spread, spread * (high - low) / 2])
    x = x.clamp(low, high)
    once = box(x)
    if not torch.equal(box(x), once):
        raise ProbeError(f"{name} gives two answers for one input: a quantiser cannot be random, or remember")
    trials = {
        "in a row": (box(x.flip(0)).flip(0), once),
        "alone": (torch.cat([box(x[i : i + 1]) for i in range(0, len(x), 7)]), once[::7]),
        "in a matrix": (box(x.reshape(8, 15)).reshape(-1), once),
    }
    for how, (values, expected) in trials.items():
        if not torch.allclose(values, expected, rtol=1e-12, atol=1e-14):
            raise ProbeError(
                f"{name} mixes entries: it gives an entry another value {how} than among others; a quantiser acts on "
                "each entry by itself (a mean over the tensor belongs into the scale)"
            )
    return box


def autograd_derivative(function: Function) -> Function:
    """Return B as autograd defines it: the factor from the gradient of a function's value to that of its input.

    B keeps shape and dtype, and is 0 if the value does not depend on the input. You can pickle B if you can pickle
    `function`. B raises ProbeError if `function` returns no tensor, or changes the shape.

    Args:
        function: an elementwise callable of one tensor, or the `apply` of a `torch.autograd.Function`.
    """
    require_callable(function, "function must be a callable of one tensor")
    return _AutogradFactor(function)


def is_autograd_function(given: object) -> TypeGuard[type[torch.autograd.Function]]:
    """Return whether `given` is a subclass of `torch.autograd.Function`, which you call by its `apply`."""
    return isinstance(given, type) and issubclass(given, torch.autograd.Function)


@dataclass(frozen=True)
class _AutogradFactor:
    function: Function

    def __call__(self, x: Tensor) -> Tensor:
        with torch.inference_mode(False), torch.enable_grad():
            leaf = (x.clone() if x.is_inference() else x.detach()).requires_grad_()
            values = self.function(leaf)
            if not isinstance(values, Tensor) or values.shape != x.shape:
                got = f"shape {tuple(values.shape)}" if isinstance(values, Tensor) else type(values).__name__
                raise ProbeError(
                    f"autograd_derivative takes an elementwise callable of one tensor: got {got} for a tensor of shape "
                    f"{tuple(x.shape)}"
                )
            if not values.requires_grad:
                return torch.zeros_like(x)
            (gradient,) = torch.autograd.grad(values, leaf, torch.ones_like(values), allow_unused=True)
        return torch.zeros_like(x) if gradient is None else gradient
