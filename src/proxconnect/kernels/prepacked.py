"""Prepack weights of signs, of 8-bit numbers, or of floats in fixed point into the layouts that the kernels read."""

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor
from torch.nn import functional

from proxconnect.kernels.arguments import CPU, FIXED_POINT
from proxconnect.kernels.bits import require_bits, unpack_bits
from proxconnect.kernels.geometry import grouped_shape
from proxconnect.kernels.library import loaded

PANEL = 8
"""How many rows of a weight of signs are interleaved word by word."""

_BLOCK, _STEP = 16, 64
"""How many rows of an 8-bit weight are interleaved; pieces of a row are padded to a multiple of `_STEP` entries."""

_WHOLE = 0x7F7F7F
"""The largest whole number of three signed bytes within ±127."""

_LEAST, _MOST = 2.0**-60, 2.0**60  # within which nothing becomes infinite or loses bits


def panels(bits: Tensor, rows: int, columns: int) -> Tensor:
    """Prepack the signs of a (rows, columns) weight, from `pack_bits`, as int64 words (⌈rows/8⌉, ⌈columns/64⌉, 8).

    Entry [p, j, i] holds columns 64j to 64j + 63 of row 8p + i, the first in the lowest bit. Bits beyond the last row
    or column are 0. The result is on the device of `bits`. ValueError for other bits.
    """
    return _panels(bits, (rows, columns, 1, 1), 1)


def conv_panels(bits: Tensor, shape: Sequence[int], groups: int = 1) -> Tensor:
    """Prepack the signs of an (out, in/groups, height, width) weight, from `pack_bits`, as int64 words.

    The shape is (groups·⌈out/groups/8⌉, ⌈height·width·in/groups/64⌉, 8): `panels` of each group, with columns in the
    order (height, width, in/groups). Several groups of fewer than 64 input and 32 output channels each, as in depthwise
    convolutions, have the shape (height·width·in/groups, ⌈out/64⌉): the bits of all outputs for each tap and channel.
    ValueError if the bits, the shape and `groups` do not fit together.
    """
    shape = grouped_shape(shape, groups)
    if not _is_thin(shape, groups):
        return _panels(bits, shape, groups)
    return _words(unpack_bits(bits, shape, torch.int8).permute(2, 3, 1, 0).flatten(0, 2))


def patch_panels(bits: Tensor, shape: Sequence[int], groups: int = 1) -> Tensor:
    """Prepack the signs of an (out, in/groups, height, width) weight, from `pack_bits`, for patches of float images.

    The shape is (groups·⌈out/groups/8⌉, ⌈height·width·in/groups/64⌉, 8) for any number of channels. `conv_panels` has
    another layout for groups of few channels. ValueError if the bits, the shape and `groups` do not fit together.
    """
    return _panels(bits, grouped_shape(shape, groups), groups)


def panels_shape(rows: int, columns: int, groups: int = 1) -> tuple[int, ...]:
    """Return the shape of the `panels` of a (rows, columns) weight, or of the `patch_panels` of several such groups."""
    return groups * -(-rows // PANEL), -(-columns // 64), PANEL


def conv_panels_shape(shape: tuple[int, ...], groups: int) -> tuple[int, ...]:
    """Return the shape of the `conv_panels` of a weight of shape (out, in/groups, height, width)."""
    columns = prod(shape[1:])
    return (
        (columns, -(-shape[0] // 64)) if _is_thin(shape, groups) else panels_shape(shape[0] // groups, columns, groups)
    )


def _is_thin(shape: Sequence[int], groups: int) -> bool:
    """Return True for several groups of few channels, for which a word per group would be mostly empty."""
    return groups > 1 and shape[1] < 64 and shape[0] // groups < 32


def _panels(bits: Tensor, shape: Sequence[int], groups: int) -> Tensor:
    """Return the `patch_panels` of a weight whose shape fits `groups`."""
    require_bits(bits, prod(shape))
    if bits.device != CPU:
        return _panels_by_torch(bits, shape, groups)
    kernels, number = loaded(None)
    outputs, channels, taps = shape[0] // groups, shape[1], prod(shape[2:])
    bits = bits.contiguous()
    made = bits.new_empty(panels_shape(outputs, channels * taps, groups), dtype=torch.int64)
    if made.untyped_storage().device == CPU:  # else it is fake
        sizes = groups, outputs, channels, taps
        kernels.px_prepack_signs(number, bits.data_ptr(), *sizes, made.data_ptr(), torch.get_num_threads())
    return made


def _panels_by_torch(bits: Tensor, shape: Sequence[int], groups: int) -> Tensor:
    """Return the same as `_panels` with operations of torch, on any device."""
    outputs = shape[0] // groups
    rows = unpack_bits(bits, shape, torch.int8).flatten(2).mT.reshape(groups, outputs, -1)
    words = _words(functional.pad(rows, (0, 0, 0, -outputs % PANEL)))
    made: Tensor = words.unflatten(1, (-1, PANEL)).transpose(2, 3).flatten(0, 1).contiguous()
    return made


def _words(signs: Tensor) -> Tensor:
    """Return signs (…, n) as int64 words (…, ⌈n/64⌉), the first sign in the lowest bit."""
    padded = functional.pad(signs > 0, (0, -signs.shape[-1] % 64))
    places = 2 ** torch.arange(8, dtype=torch.uint8, device=signs.device)
    words: Tensor = (padded.unflatten(-1, (-1, 8)) * places).sum(-1, dtype=torch.uint8).view(torch.int64)
    return words


def int8_panels(levels: Tensor, dilation: Sequence[int] = (1, 1)) -> Tensor:
    """Prepack a weight of whole numbers within ±127 as int8 of shape (⌈out/16⌉, bytes).

    `levels` is int8, (out, in) for `int8_linear` or (out, in, height, width) for `int8_conv2d`, whose dilation is
    `dilation`. ValueError for another shape, TypeError for another dtype.
    """
    if levels.dtype is not torch.int8:
        raise TypeError(f"a weight of whole numbers is int8; got {levels.dtype}")
    if levels.dim() not in (2, 4) or 0 in levels.shape:
        raise ValueError(f"a weight is (out, in) or (out, in, height, width); got {tuple(levels.shape)}")
    rows = levels[:, None] if levels.dim() == 2 else levels.permute(0, 2, 3, 1)
    pieces = rows.reshape(rows.shape[0], *_pieces(levels.shape, dilation))
    padding = -rows.shape[0] % _BLOCK
    padded = functional.pad(pieces, (0, -pieces.shape[2] % _STEP, 0, 0, 0, padding))
    blocks = padded.reshape(-1, _BLOCK, padded.shape[1] * padded.shape[2] // 4, 4).transpose(1, 2).flatten(1)
    totals = 128 * padded.sum((1, 2), dtype=torch.int32).view(-1, _BLOCK)
    return torch.cat([blocks, totals.view(torch.int8)], 1)


def int8_panels_shape(weight: Sequence[int], dilation: Sequence[int] = (1, 1)) -> tuple[int, int]:
    """Return the shape of `int8_panels` for this dilation and a weight (out, in) or (out, in, height, width)."""
    count, length = _pieces(weight, dilation)
    steps = count * -(-length // _STEP)
    return -(-weight[0] // _BLOCK), steps * _STEP * _BLOCK + 4 * _BLOCK


def _pieces(weight: Sequence[int], dilation: Sequence[int]) -> tuple[int, int]:
    """Return the number and length of contiguous pieces in a patch: its rows, or its taps if the width is dilated."""
    if len(weight) == 2:
        return 1, weight[1]
    _, channels, height, width = weight
    return (height, width * channels) if dilation[1] == 1 or width == 1 else (height * width, channels)


def is_finite_weight(weight: Tensor) -> bool:
    """Return True if a weight is (out, in, height, width), none of them 0, and finite."""
    return weight.dim() == 4 and min(weight.shape) > 0 and bool(weight.detach().isfinite().all())


def float_panels(weight: Tensor) -> Tensor:
    """Prepack a float weight (out, in, height, width) as (⌈out/16⌉, height·width·in, 16), in its dtype.

    Entry [b, k, i] is entry k of output 16b + i, in the order (height, width, in), or 0 after the last output.
    Kernels take float32 alone. ValueError unless `is_finite_weight(weight)`.
    """
    if not is_finite_weight(weight):
        raise ValueError(f"a weight is (out, in, height, width), none of them 0, and finite; got {tuple(weight.shape)}")
    rows = weight.permute(0, 2, 3, 1).flatten(1)
    blocks: Tensor = functional.pad(rows, (0, 0, 0, -len(rows) % _BLOCK)).unflatten(0, (-1, _BLOCK)).mT.contiguous()
    return blocks


def depthwise_panels(weight: Tensor, channels: int) -> Tensor:
    """Prepack a float weight (channels, 1, height, width) as float32 (height·width, ⌈channels/16⌉·16).

    Entries after the last channel are 0. ValueError for other shapes and weights that are not finite.
    """
    if not is_finite_weight(weight) or weight.shape[:2] != (channels, 1):
        raise ValueError(
            f"a weight in several groups is finite and (groups, 1, height, width); got {tuple(weight.shape)} and "
            f"{channels} groups"
        )
    return functional.pad(weight.flatten(1).T, (0, -channels % _BLOCK)).contiguous()


def can_be_fixed(weight: Tensor) -> bool:
    """Return True if `fixed_point_panels` supports a weight: (out, in, height, width), none of them 0.

    It has at most 2^15 weights per output, of which the largest magnitude is 0 or from 2^-60 to 2^60.
    """
    if weight.dim() != 4 or min(weight.shape) < 1 or prod(weight.shape[1:]) > FIXED_POINT:
        return False
    largest = weight.detach().abs().flatten(1).amax(1)
    return bool(((largest == 0) | ((largest >= _LEAST) & (largest <= _MOST))).all())


def fixed_point_panels(weight: Tensor, dilation: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Round a float weight (out, in, height, width) to whole numbers of three bytes, and prepack it.

    Return int8 (⌈out/16⌉, 4, bytes), whose index i of dimension 1 is for part i of the four parts of a sum, and float32
    (out,), by which the kernel multiplies the sums of each output. ValueError unless `can_be_fixed(weight)`.
    """
    if not can_be_fixed(weight):
        raise ValueError(
            f"a weight is (out, in, height, width), of at most {FIXED_POINT} entries a patch, and finite, the largest "
            f"of an output 0 or within 2^±60; got {tuple(weight.shape)}"
        )
    wide = weight.double()
    step = wide.abs().flatten(1).amax(1).clamp(min=_LEAST) / _WHOLE
    whole = (wide / step.view(-1, 1, 1, 1)).round_().to(torch.int32)
    low, middle, high = ((whole + 0x808080) ^ 0x808080).view(torch.int8).unflatten(-1, (-1, 4)).unbind(-1)[:3]
    none = torch.zeros_like(low)
    meeting = (none, none, high), (none, high, middle), (high, middle, low), (middle, low, none)
    panels = [int8_panels(torch.stack(digits, 2).flatten(1, 2), dilation) for digits in meeting]
    return torch.stack(panels, 1), (2.0**8 * step).float()
