"""Callables of one tensor that somebody else wrote, checked before anything rests on them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeGuard

import torch
from torch import Tensor

Function = Callable[[Tensor], Tensor]


class ProbeError(ValueError):
    """The error for a callable that is no elementwise function with finite values; the message says why."""


@dataclass(frozen=True)
class BlackBox:
    """A callable of one tensor, called `name` in messages, whose values are checked at each call."""

    name: str
    function: Function

    def __call__(self, x: Tensor) -> Tensor:
        """Return the values at the float64 tensor `x`, detached; ProbeError unless finite, of its shape and dtype."""
        given = x.clone()
        try:
            values = self.function(given)
        except Exception as error:
            raise ProbeError(
                f"{self.name} raised {type(error).__name__} for a float64 tensor of shape {tuple(x.shape)}: {error}"
            ) from error
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
        if not torch.equal(given, x):
            raise ProbeError(f"{self.name} changes the tensor that it is given: let it work on a copy")
        for kind, wrong in ("NaN", values.isnan()), ("infinite", values.isinf()):
            if len(at := x[wrong]):
                raise ProbeError(
                    f"{self.name} is {kind} at {len(at)} of {x.numel()} points, from x = {float(at.min()):.6g} to "
                    f"{float(at.max()):.6g}: write it in a form that does not overflow, or narrow domain=(low, high)"
                )
        return values.detach()


def probed(function: Function, name: str, low: float, high: float) -> BlackBox:
    """Return `function` as a `BlackBox`; ProbeError if probes in [low, high] fail, are random or mix entries."""
    if not callable(function):
        raise TypeError(f"{name} must be a callable of one tensor; got {type(function).__name__}")
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
    `function`.

    Args:
        function: an elementwise callable of one tensor, or the `apply` of a `torch.autograd.Function`.
    """
    return _AutogradFactor(function)


def is_autograd_function(given: object) -> TypeGuard[type[torch.autograd.Function]]:
    """Return whether `given` is a subclass of `torch.autograd.Function`, which you call by its `apply`."""
    return isinstance(given, type) and issubclass(given, torch.autograd.Function)


@dataclass(frozen=True)
class _AutogradFactor:
    function: Function

    def __call__(self, x: Tensor) -> Tensor:
        with torch.enable_grad():
            leaf = x.detach().requires_grad_()
            values = self.function(leaf)
            if not values.requires_grad:
                return torch.zeros_like(x)
            (gradient,) = torch.autograd.grad(values, leaf, torch.ones_like(values), allow_unused=True)
        return torch.zeros_like(x) if gradient is None else gradient
