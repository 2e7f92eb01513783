"""The quantizer's forward and backward by kernels: the same function, in one pass over memory each.

Which parts of a pair the kernels know is a table by their type. A pair with another part, and whatever is not a plain
tensor on the CPU, goes by torch. The latents of a step are many small tensors and the caches are cold at each, so
that what Python does here is kept short: a line of it costs as much as many entries.
"""

import math
from functools import cache, lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.utils._python_dispatch import is_in_torch_dispatch_mode

from proxconnect.pairs import AnyPair, Heuristic, squashing
from proxconnect.pairs import prox as proxes
from proxconnect.pairs import transform as transforms
from proxconnect.pairs.pair import FixedMap, MethodMap
from proxconnect.pairs.transform import Slope
from proxconnect.quantizer.surrogate import backward_factor, multiplied


class Curve(NamedTuple):
    """A curve of `csrc/proxconnect.h`, and the μ that its part fixes."""

    number: int
    fixed: float | None = None

    def at(self, mu: float) -> float:
        """`mu`, or the fixed one."""
        return mu if self.fixed is None else self.fixed


class Form(NamedTuple):
    """A pair as the kernels have it: F, the curve whose derivative is B, and which values B takes."""

    pair: AnyPair
    value: Curve
    derivative: Curve
    slope: Slope


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
    """The pair as the kernels have it; None where they do not."""
    value: Curve | None = _SIGN
    derivative: Curve | None = _SIGN
    if isinstance(pair, Heuristic):
        value, derivative = (_SIGN if pair.is_sign else None), _slope_of(pair.backward_map)
    elif pair.prox == proxes.identity:
        value = derivative = _curve_of(pair.transform, _TRANSFORMS)
    elif not pair.is_sign:
        value = _curve_of(pair.prox, _PROXES) if pair.transform == transforms.identity else None
    return None if value is None or derivative is None else Form(pair, value, derivative, pair.slope)


def _curve_of(part: object, curves: dict[type, Curve]) -> Curve | None:
    if isinstance(part, proxes.FixedProx):
        return _fixed(_curve_of(part.prox, curves), part.mu)
    if isinstance(part, transforms.FixedTransform):
        return _fixed(_curve_of(part.transform, curves), part.mu)
    return curves.get(type(part))


def _slope_of(backward: object) -> Curve | None:
    if isinstance(backward, FixedMap):
        return _fixed(_slope_of(backward.map), backward.mu)
    if isinstance(backward, MethodMap) and backward.method == "derivative":
        return _curve_of(backward.owner, _TRANSFORMS)
    return None


def _fixed(curve: Curve | None, mu: float) -> Curve | None:
    """The curve at `mu`, unless a part within has fixed it."""
    return curve if curve is None or curve.fixed is not None else Curve(curve.number, mu)


class Rows(NamedTuple):
    """Entries that share a scale and lie together: how many such rows, 0 without scale, and the entries of each."""

    scales: int
    columns: int
    entries: int
    sizes: tuple[int, ...]
    """Those of the scales, which broadcast over the tensor."""
    strides: tuple[int, ...]


CHUNK = 4096
"""Entries that make a row where there is no scale."""


@lru_cache(maxsize=4096)
def rows_of(
    shape: tuple[int, ...], strides: tuple[int, ...], scale: str | None, channel_dims: tuple[int, ...]
) -> Rows | None:
    """The rows of a tensor; None where it does not fill its memory, row after row, or has no second entry."""
    entries, sized = math.prod(shape), [d for d, size in enumerate(shape) if size > 1]
    if entries < 2:
        return None
    outermost_first = sorted(sized, key=lambda d: -strides[d])
    if [strides[d] for d in outermost_first] != _strides([shape[d] for d in outermost_first]):
        return None
    if not all(-len(shape) <= d < len(shape) for d in channel_dims):
        return None
    channels = [] if scale in (None, "tensor") else sorted({d % len(shape) for d in channel_dims} & set(sized))
    if outermost_first[: len(channels)] != channels:
        return None
    sizes = tuple(size if d in channels else 1 for d, size in enumerate(shape))
    scales = 0 if scale is None else math.prod(sizes)
    return Rows(scales, entries // scales if scales else CHUNK, entries, sizes, strides)


def _strides(sizes: list[int]) -> list[int]:
    """Of a tensor without gaps."""
    return [math.prod(sizes[d + 1 :]) for d in range(len(sizes))]


SHARPNESSES = (1e-6, 1e9)
"""What the kernels take: float32 then holds μ/ᾱ by two factors, whatever ᾱ is."""

_PLAIN = (Tensor, nn.Parameter)
_DTYPES = (torch.float32, torch.bfloat16)


def is_plain(tensor: Tensor) -> bool:
    """Whether it is float32 or bfloat16 on the CPU, and nothing watches, transforms or traces what becomes of it.

    Its memory then holds its entries: not those of the opposite sign, nor nothing where torch knows that all are 0.
    """
    return (
        type(tensor) in _PLAIN
        and tensor.is_cpu
        and tensor.dtype in _DTYPES
        and not tensor.is_neg()
        and not tensor._is_zerotensor()
        and forward_ad._current_level < 0
        and not torch._C._are_functorch_transforms_active()
        and not is_in_torch_dispatch_mode()
        and torch._C._get_tracing_state() is None
        and _are_built()
    )


def quantise(latent: Tensor, form: Form, rows: Rows, mu: float, is_unit: bool) -> Tensor:
    """α·F(x) of a plain tensor, or (α/ᾱ)·F(x) where `is_unit`, with the gradient of B."""
    if not (latent.requires_grad and torch.is_grad_enabled()):
        return _quantised(latent, form, rows, mu, is_unit, None)[0]
    value: Tensor = Fused.apply(latent, form, rows, mu, is_unit)
    return value


class Fused(torch.autograd.Function):
    """As `Surrogate` does, and it remembers as little."""

    @staticmethod
    def forward(ctx: Any, latent: Tensor, form: Form, rows: Rows, mu: float, is_unit: bool) -> Tensor:
        """The value, with the shape, layout and dtype of `latent`."""
        inside = torch.empty_like(latent, dtype=torch.bool) if form.slope == "indicator" else None
        value, statistics = _quantised(latent, form, rows, mu, is_unit, inside)
        ctx.work = form, rows, mu
        if form.slope != "one" or is_unit or (rows.scales and form.value.number != _SIGN.number):  # else B = α/ᾱ = 1
            ctx.save_for_backward(latent if form.slope == "any" else None, inside, statistics)
        return value

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """factor·B·g for the latent, nothing for the rest."""
        saved = ctx.saved_tensors
        if not saved:
            return gradient, None, None, None, None
        has_memory = is_plain(gradient) and torch._C._has_storage(gradient)  # not where it is sparse or batched
        by_torch = torch.is_grad_enabled() or not has_memory
        product = (_multiplied_by_torch if by_torch else _multiplied)(gradient, *saved, *ctx.work)
        return product, None, None, None, None


def _quantised(
    latent: Tensor, form: Form, rows: Rows, mu: float, is_unit: bool, inside: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    """The value, and the divisors and factors of the rows; writes to `inside` where |x| ≤ 1."""
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
    """factor·B·g by the kernels."""
    if gradient.stride() != rows.strides:
        gradient = _laid_out(gradient, rows)
    if latent is not None and latent.stride() != rows.strides:  # as hooks that pack tensors may bring them back
        latent = _laid_out(latent, rows)
    if inside is not None and inside.stride() != rows.strides:
        inside = _laid_out(inside, rows)
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
    """factor·B·g by what can be differentiated, transformed and traced."""
    divisor = factor = None
    if statistics is not None:
        divisor, factor = (part.view(rows.sizes) for part in statistics)
    slope = inside
    if latent is not None:
        slope = backward_factor(form.pair, latent, divisor, torch.tensor(mu, device=latent.device))
    return multiplied(gradient, slope, factor)


def _laid_out(tensor: Tensor, rows: Rows) -> Tensor:
    """A copy that lies in memory as the rows do."""
    return torch.empty_strided(tensor.shape, rows.strides, dtype=tensor.dtype).copy_(tensor)


@cache
def _are_built() -> bool:
    from proxconnect.kernels import is_built  # which imports layers, and those import this

    return is_built()


@cache
def _kernels() -> tuple[Any, int]:
    """The library, and the best instruction set here."""
    from proxconnect.kernels.library import loaded

    return loaded(None)
