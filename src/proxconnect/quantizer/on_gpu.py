"""The compiled form of a quantizer on GPUs: forward and backward by Triton kernels, each in one pass over memory.

The kernels read μ from its buffer, because its value would have to wait for the device. `Quantizer` and `Sharpening`
check its range as they set it.
"""

from functools import cache
from typing import Any

import torch
from torch import Tensor

from proxconnect.gpu.availability import runs_on
from proxconnect.quantizer.forms import SIGN, Form
from proxconnect.quantizer.rows import Rows, is_readable, laid_out
from proxconnect.quantizer.surrogate import multiplied_in_rows

_DTYPES = (torch.float32, torch.float16, torch.bfloat16)


def is_plain(tensor: Tensor) -> bool:
    """Return True if kernels can read `tensor`: dense, of at most 32 bits, on a GPU, outside traces and vmap."""
    return is_readable(tensor) and tensor.is_cuda and tensor.dtype in _DTYPES and runs_on(tensor.device)


def is_beside(mu: Tensor, latent: Tensor) -> bool:
    """Return True if kernels can read the buffer `mu` where they read `latent`."""
    return mu.device == latent.device and is_readable(mu)


@cache
def _kernels() -> Any:
    """Import the kernels, and with them Triton, when they are first needed."""
    from proxconnect.gpu import quantizer

    return quantizer


def quantise(latent: Tensor, form: Form, rows: Rows, mu: Tensor, is_unit: bool) -> Tensor:
    """Compute α·F(x), with x = latent/ᾱ, by the kernels; the gradient of `latent` is (α/ᾱ)·B(x)·g.

    `is_plain(latent)` must be True, and `rows` those of `latent`. `mu` is one entry on its device. `is_unit` divides
    the value and the gradient by ᾱ, so that a learned scale can multiply them.
    """
    if not (latent.requires_grad and torch.is_grad_enabled()):
        return _quantised(latent, form, rows, mu, is_unit, None)[0]
    value: Tensor = GpuSurrogate.apply(latent, form, rows, mu, is_unit)
    return value


class GpuSurrogate(torch.autograd.Function):
    """The autograd function behind `quantise`; like `Surrogate` it saves only the tensors that its gradient needs."""

    @staticmethod
    def forward(ctx: Any, latent: Tensor, form: Form, rows: Rows, mu: Tensor, is_unit: bool) -> Tensor:
        """Return α·F(x) with x = latent/ᾱ, or (α/ᾱ)·F(x) if `is_unit`, with the shape, layout and dtype of `latent`."""
        inside = torch.empty_like(latent, dtype=torch.bool) if form.slope == "indicator" else None
        value, statistics = _quantised(latent, form, rows, mu, is_unit, inside)
        ctx.work = form, rows
        if not form.keeps_gradients(rows.scales > 0, is_unit):
            ctx.save_for_backward(latent if form.slope == "any" else None, inside, statistics)
        return value

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Return factor·B(x)·g, the gradient of `latent`, then None for each other input; see `quantise`."""
        saved = ctx.saved_tensors
        if not saved:
            return gradient, None, None, None, None
        by_torch = torch.is_grad_enabled() or not is_plain(gradient)
        product = (_multiplied_by_torch if by_torch else _multiplied)(gradient, *saved, *ctx.work)
        return product, None, None, None, None


def _quantised(
    latent: Tensor, form: Form, rows: Rows, mu: Tensor, is_unit: bool, inside: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    """Return the value, and the divisors and factors of the rows, then μ, as one vector; write |x| ≤ 1 to `inside`."""
    remembers_mu, is_sign = form.slope == "any", form.value.number == SIGN.number
    fixed = 1.0 if is_sign else form.value.fixed
    statistics = None
    if rows.scales or remembers_mu:
        statistics = latent.new_empty(2 * rows.scales + 1, dtype=torch.float32)
    value: Tensor = _kernels().quantize(
        latent, form.value.number, fixed, mu if remembers_mu or fixed is None else None, rows.scales, is_unit, inside,
        statistics,
    )  # fmt: skip
    return value, statistics


def _multiplied(
    gradient: Tensor, latent: Tensor | None, inside: Tensor | None, statistics: Tensor | None, form: Form, rows: Rows
) -> Tensor:
    """Compute factor·B·g by kernels."""
    gradient = laid_out(gradient, rows)
    latent = None if latent is None else laid_out(latent, rows)  # hooks on saved tensors may change the layout
    inside = None if inside is None else laid_out(inside, rows)
    slope = SIGN if latent is None else form.derivative
    fixed = 1.0 if latent is None else slope.fixed
    product: Tensor = _kernels().multiply(gradient, latent, inside, statistics, slope.number, fixed, rows.scales)
    return product


def _multiplied_by_torch(
    gradient: Tensor, latent: Tensor | None, inside: Tensor | None, statistics: Tensor | None, form: Form, rows: Rows
) -> Tensor:
    """Compute factor·B·g by operations that torch can differentiate, transform and trace."""
    of_rows = statistics[:-1].view(2, -1) if statistics is not None and rows.scales else None
    mu = gradient.new_ones(()) if statistics is None else statistics[-1]  # without statistics, no B reads μ
    return multiplied_in_rows(gradient, latent, inside, of_rows, form, rows, mu)
