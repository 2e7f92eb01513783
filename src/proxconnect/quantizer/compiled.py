"""The compiled form of a quantizer: forward and backward by kernels, each in one pass over memory.

Tables map the types of a pair's parts to the curves that the kernels know. Pairs with other parts, and tensors that are
not plain CPU tensors, use torch. Each latent finds the caches cold, so a line of Python costs as much as many entries.
"""

import math
from functools import cache, lru_cache, partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.utils._python_dispatch import is_in_torch_dispatch_mode

from proxconnect.kernels.library import is_built, loaded
from proxconnect.pairs import AnyPair, Heuristic, squashing
from proxconnect.pairs import prox as proxes
from proxconnect.pairs import transform as transforms
from proxconnect.pairs.pair import FixedMap, MethodMap
from proxconnect.pairs.transform import Slope
from proxconnect.quantizer.surrogate import multiplied


class Curve(NamedTuple):
    """A function that the kernels know, by its number in `csrc/proxconnect.h`, and its fixed μ (None: μ is free)."""

    number: int
    fixed: float | None = None

    def at(self, mu: float) -> float:
        """Return the μ at which kernels compute this curve: the fixed μ, or `mu` if none is fixed."""
        return mu if self.fixed is None else self.fixed


class Form(NamedTuple):
    """A pair as the kernels compute it: F is the curve `value`, and B the derivative of the curve `derivative`."""

    pair: AnyPair
    value: Curve
    derivative: Curve
    slope: Slope
    """The values that B takes: 1 ("one"), 0 and 1 ("indicator"), or "any"."""


_SIGN, _CLIP, _POLYNOMIAL, _TANH, _ERROR_DECAY, _SIGN_SWISH, _PROXCONNECT, _BINARYRELAX = map(Curve, range(8))
"""In the order of `csrc/proxconnect.h`."""

_PROXES: dict[type, Curve] = {
    proxes.PARQ: _CLIP,
    proxes.Tanh: _TANH,
    proxes.ProxConnect: _PROXCONNECT,
    proxes.BinaryRelax: _BINARYRELAX,
}
_TRANSFORMS: dict[type, Curve] = {
    squashing.Clip: _CLIP,
    transforms.Polynomial: _POLYNOMIAL,
    transforms.ErrorDecay: _ERROR_DECAY,
    transforms.SignSwish: _SIGN_SWISH,
}


def form_of(pair: AnyPair) -> Form | None:
    """Return a pair as the kernels compute it; None if they do not know F or B of this pair."""
    value: Curve | None = _SIGN
    derivative: Curve | None = _SIGN
    if isinstance(pair, Heuristic):
        mu, backward = None, pair.backward_map
        if isinstance(backward, FixedMap):
            mu, backward = backward.mu, backward.map
        if not pair.is_sign or not isinstance(backward, MethodMap) or backward.method != "derivative":
            return None
        derivative = _curve_of(backward.owner, _TRANSFORMS, mu)
    elif pair.prox == proxes.identity:
        value = derivative = _curve_of(pair.transform, _TRANSFORMS)
    elif not pair.is_sign:
        value = _curve_of(pair.prox, _PROXES) if pair.transform == transforms.identity else None
    return None if value is None or derivative is None else Form(pair, value, derivative, pair.slope)


def _curve_of(part: object, curves: dict[type, Curve], mu: float | None = None) -> Curve | None:
    """Look up the curve of a part, fixed at the μ of the part or else at `mu`."""
    if isinstance(part, proxes.FixedProx):
        mu, part = part.mu, part.prox
    elif isinstance(part, transforms.FixedTransform):
        mu, part = part.mu, part.transform
    curve = curves.get(type(part))
    return None if curve is None else Curve(curve.number, mu)


class Rows(NamedTuple):
    """The division of a dense tensor into rows: contiguous entries that share a scale, or chunks without a scale."""

    scales: int
    """The number of rows; 0 without a scale."""
    columns: int
    """The entries per row; `CHUNK` without a scale."""
    entries: int
    sizes: tuple[int, ...]
    """The shape of the scales, broadcastable over the tensor."""
    strides: tuple[int, ...]


CHUNK = 4096


@lru_cache(maxsize=4096)
def rows_of(
    shape: tuple[int, ...], strides: tuple[int, ...], scale: str | None, channel_dims: tuple[int, ...]
) -> Rows | None:
    """Divide a tensor into contiguous rows, one per scale of a `Quantizer`; None if kernels cannot take its layout."""
    entries, sized = math.prod(shape), [d for d, size in enumerate(shape) if size > 1]
    if entries < 2:
        return None
    outermost_first = sorted(sized, key=lambda d: -strides[d])
    if any(strides[d] != math.prod(shape[e] for e in outermost_first[i + 1 :]) for i, d in enumerate(outermost_first)):
        return None  # there are gaps
    if not all(-len(shape) <= d < len(shape) for d in channel_dims):
        return None
    channels = [] if scale in (None, "tensor") else sorted({d % len(shape) for d in channel_dims} & set(sized))
    if outermost_first[: len(channels)] != channels:
        return None
    sizes = tuple(size if d in channels else 1 for d, size in enumerate(shape))
    scales = 0 if scale is None else math.prod(sizes)
    return Rows(scales, entries // scales if scales else CHUNK, entries, sizes, strides)


SHARPNESSES = (1e-6, 1e9)
"""The range of μ for kernels: in it float32 holds μ/ᾱ, as two factors, for every ᾱ."""

_PLAIN = (Tensor, nn.Parameter)
_DTYPES = (torch.float32, torch.bfloat16)

_are_built = cache(is_built)
_kernels = cache(partial(loaded, None))


def is_plain(tensor: Tensor) -> bool:
    """Return True if built kernels can read `tensor`: dense float32 or bfloat16 on the CPU, outside traces and vmap."""
    return (
        type(tensor) in _PLAIN
        and tensor.is_cpu
        and tensor.dtype in _DTYPES
        and not tensor.is_neg()
        and torch._C._has_storage(tensor)
        and not tensor._is_zerotensor()
        and forward_ad._current_level < 0
        and not torch._C._are_functorch_transforms_active()
        and not is_in_torch_dispatch_mode()
        and torch._C._get_tracing_state() is None
        and _are_built()
    )


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
        if form.slope != "one" or is_unit or (rows.scales and form.value.number != _SIGN.number):  # else B = α/ᾱ = 1
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
    gradient = _laid_out(gradient, rows)
    latent = None if latent is None else _laid_out(latent, rows)  # hooks on saved tensors may change the layout
    inside = None if inside is None else _laid_out(inside, rows)
    product = torch.empty_like(gradient)
    kernels, instruction_set = _kernels()
    kernels.px_quantize_backward(
        instruction_set, gradient.dtype is torch.bfloat16, form.derivative.number, form.derivative.at(mu), rows.entries,
        rows.columns, None if latent is None else latent.data_ptr(), gradient.data_ptr(),
        None if statistics is None else statistics.data_ptr(), None if inside is None else inside.data_ptr(),
        product.data_ptr(), torch.get_num_threads(),
    )  # fmt: skip
    return product


def _multiplied_by_torch(
    gradient: Tensor, latent: Tensor | None, inside: Tensor | None, statistics: Tensor | None, form: Form, rows: Rows,
    mu: float,
) -> Tensor:  # fmt: skip
    """Compute factor·B·g by operations that torch can differentiate, transform and trace."""
    divisor = factor = None
    if statistics is not None:
        divisor, factor = (part.view(rows.sizes) for part in statistics)
    slope = inside
    if latent is not None:
        x = latent if divisor is None else latent / divisor
        slope = form.pair.backward(x, torch.tensor(mu, device=latent.device))
    return multiplied(gradient, slope, factor)


def _laid_out(tensor: Tensor, rows: Rows) -> Tensor:
    """Return a tensor in the memory layout of the rows."""
    if tensor.stride() == rows.strides:
        return tensor
    return torch.empty_strided(tensor.shape, rows.strides, dtype=tensor.dtype).copy_(tensor)
