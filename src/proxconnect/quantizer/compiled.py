"""The compiled form of a quantizer on CPUs: forward and backward by kernels, each in one pass over memory.

Tensors that are not plain CPU tensors use torch. Each latent finds the caches cold, so a line of Python costs as much
as many entries.
"""

from functools import cache, partial
from typing import Any

import torch
from torch import Tensor

from proxconnect.kernels.library import is_built, loaded
from proxconnect.quantizer.forms import Form
from proxconnect.quantizer.rows import Rows, is_readable, laid_out
from proxconnect.quantizer.surrogate import multiplied_in_rows

_DTYPES = (torch.float32, torch.bfloat16)

_are_built = cache(is_built)
_kernels = cache(partial(loaded, None))


def is_plain(tensor: Tensor) -> bool:
    """Return True if built kernels can read `tensor`: dense float32 or bfloat16 on the CPU, outside traces and vmap."""
    return is_readable(tensor) and tensor.is_cpu and tensor.dtype in _DTYPES and _are_built()


def quantise(latent: Tensor, form: Form, rows: Rows, mu: float, is_unit: bool) -> Tensor:
    """Compute α·F(x), with x = latent/ᾱ, by the kernels; the gradient of `latent` is (α/ᾱ)·B(x)·g.

    `is_plain(latent)` must be True, and `rows` those of `latent`. `is_unit` divides the value and the gradient by ᾱ, so
    that a learned scale can multiply them.
    """
    if not (latent.requires_grad and torch.is_grad_enabled()):
        return _quantised(latent, form, rows, mu, is_unit, None)[0]
    value: Tensor = CompiledSurrogate.apply(latent, form, rows, mu, is_unit)
    return value


class CompiledSurrogate(torch.autograd.Function):
    """The autograd function behind `quantise`; like `Surrogate` it saves only the tensors that its gradient needs."""

    @staticmethod
    def forward(ctx: Any, latent: Tensor, form: Form, rows: Rows, mu: float, is_unit: bool) -> Tensor:
        """Return α·F(x) with x = latent/ᾱ, or (α/ᾱ)·F(x) if `is_unit`, with the shape, layout and dtype of `latent`."""
        inside = torch.empty_like(latent, dtype=torch.bool) if form.slope == "indicator" else None
        value, statistics = _quantised(latent, form, rows, mu, is_unit, inside)
        ctx.work = form, rows, mu
        if not form.keeps_gradients(rows.scales > 0, is_unit):
            ctx.save_for_backward(latent if form.slope == "any" else None, inside, statistics)
        return value

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Return factor·B(x)·g, the gradient of `latent`, then None for each other input; see `quantise`."""
        saved = ctx.saved_tensors
        if not saved:
            return gradient, None, None, None, None
        (latent, inside, statistics), (form, rows, mu) = saved, ctx.work
        if torch.is_grad_enabled() or not is_plain(gradient):
            product = multiplied_in_rows(gradient, latent, inside, statistics, form, rows, torch.tensor(mu))
        else:
            product = _multiplied(gradient, latent, inside, statistics, form, rows, mu)
        return product, None, None, None, None


def _quantised(
    latent: Tensor, form: Form, rows: Rows, mu: float, is_unit: bool, inside: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    """Return the value, and the divisors and factors of the rows; write |x| ≤ 1 to `inside`."""
    value = torch.empty_like(latent)
    statistics = latent.new_empty((2, rows.scales), dtype=torch.float32) if rows.scales else None
    kernels, instruction_set = _kernels()
    kernels.px_quantize(
        instruction_set, latent.dtype is torch.bfloat16, form.value.number, is_unit, form.value.at(mu), rows.entries,
        rows.columns, latent.data_ptr(), value.data_ptr(), None if statistics is None else statistics.data_ptr(),
        None if inside is None else inside.data_ptr(), torch.get_num_threads(),
    )  # fmt: skip
    return value, statistics


def _multiplied(
    gradient: Tensor, latent: Tensor | None, inside: Tensor | None, statistics: Tensor | None, form: Form, rows: Rows,
    mu: float,
) -> Tensor:  # fmt: skip
    """Compute factor·B·g by kernels."""
    gradient = laid_out(gradient, rows)
    latent = None if latent is None else laid_out(latent, rows)  # hooks on saved tensors may change the layout
    inside = None if inside is None else laid_out(inside, rows)
    product = torch.empty_like(gradient)
    kernels, instruction_set = _kernels()
    kernels.px_quantize_backward(
        instruction_set, gradient.dtype is torch.bfloat16, form.derivative.number, form.derivative.at(mu), rows.entries,
        rows.columns, None if latent is None else latent.data_ptr(), gradient.data_ptr(),
        None if statistics is None else statistics.data_ptr(), None if inside is None else inside.data_ptr(),
        product.data_ptr(), torch.get_num_threads(),
    )  # fmt: skip
    return product
