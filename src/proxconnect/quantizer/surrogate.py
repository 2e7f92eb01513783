"""The forward-backward step of any pair as one autograd function."""

import inspect
from typing import Any

import torch
from torch import Tensor

from proxconnect.pairs import AnyPair
from proxconnect.quantizer.forms import Form
from proxconnect.quantizer.rows import Rows


class Surrogate(torch.autograd.Function):
    """The autograd function that returns `value` and gives `latent` the gradient factor·B_μ(latent/divisor)·g.

    g is the incoming gradient. A divisor or factor of None stands for 1. `mask` holds a B of 0 and 1 ("indicator").
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(
        latent: Tensor, value: Tensor, mask: Tensor | None, divisor: Tensor | None, factor: Tensor | None,
        mu: Tensor, pair: AnyPair,
    ) -> Tensor:  # fmt: skip
        """Return `value`, which has the shape and dtype of `latent`."""
        return value.view_as(value)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        """Save pair, factor and mask for `backward`; if the pair's `slope` is "any", also latent, divisor and μ."""
        latent, _, mask, divisor, factor, mu, ctx.pair = inputs
        arguments = (latent, divisor, mu) if ctx.pair.slope == "any" else (None, None, None)
        ctx.save_for_backward(factor, mask, *arguments)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Return factor·B·g, the gradient of `latent`, then None for each other input."""
        factor, slope, latent, divisor, mu = ctx.saved_tensors
        if latent is not None:
            slope = ctx.pair.backward(latent if divisor is None else latent / divisor, mu)
        return multiplied(gradient, slope, factor), None, None, None, None, None, None


def multiplied(gradient: Tensor, slope: Tensor | None, factor: Tensor | None) -> Tensor:
    """Return factor·slope·gradient in the dtype of `gradient`; a factor or slope of None stands for 1."""
    if factor is not None:
        slope = factor if slope is None else slope * factor  # float32 or wider, rounded once below
    return gradient if slope is None else (gradient * slope).to(gradient.dtype)


def multiplied_in_rows(
    gradient: Tensor, latent: Tensor | None, inside: Tensor | None, statistics: Tensor | None, form: Form, rows: Rows,
    mu: Tensor,
) -> Tensor:  # fmt: skip
    """Compute factor·B·g of a form by operations that torch can differentiate, transform and trace.

    `statistics` are the divisors and factors of the rows, (2, rows). `latent` is None unless B can be anything; then
    `inside` holds a B of 0 and 1.
    """
    divisor = factor = None
    if statistics is not None:
        divisor, factor = (part.view(rows.sizes) for part in statistics)
    slope = inside
    if latent is not None:
        slope = form.pair.backward(latent if divisor is None else latent / divisor, mu)
    return multiplied(gradient, slope, factor)


# torch binds the inputs to the signature at every call; this saves making it each time.
Surrogate.forward.__signature__ = inspect.signature(Surrogate.forward)  # type: ignore[attr-defined]  # `inspect` reads it
