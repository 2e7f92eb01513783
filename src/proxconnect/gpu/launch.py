"""Launch the Triton kernels of products by prepacked weights. Nothing is checked here; `operators` checks.

Tensors may be on any device on which Triton runs kernels, so that its interpreter can take those of the CPU.
"""

from dataclasses import dataclass
from typing import Any

import torch
import triton
from torch import Tensor

from proxconnect.gpu import float_kernels, sign_kernels
from proxconnect.gpu.blocks import Blocks, blocks_of
from proxconnect.kernels.geometry import out_size

_ONE_PIXEL = 1, 0, 1
"""The pixels of an image whose outputs are a matrix, and the distances of pixels and of channels."""

_SUMMED = 64
"""The outputs of a program that adds the sums of splits."""

_ROUNDS_TWICE = {"enable_fp_fusion": False}
"""An output is rounded after its scale and after its bias, as on CPUs, so that products of signs are the same there."""


@dataclass(frozen=True, eq=False)
class Weight:
    """A prepacked weight, and the scale and bias of its outputs."""

    panels: Tensor
    """int64 (⌈outputs/8⌉, ⌈columns/64⌉, 8), contiguous."""
    outputs: int
    columns: int
    scale: Tensor | None = None
    """One or `outputs` floats, or those of `group_scales`."""
    bias: Tensor | None = None

    @property
    def has_groups(self) -> bool:
        """True if the scale is that of `group_scales`."""
        return self.scale is not None and self.scale.dim() == 3

    @property
    def finish(self) -> tuple[Any, ...]:
        """The scale of sums, the distance of its entries, and the bias, for kernels."""
        scale = None if self.has_groups else self.scale
        return scale, 0 if scale is None or scale.numel() == 1 else 1, self.bias


@dataclass(frozen=True)
class Held:
    """What `overflow_of` returns: an accumulator of signs, by default none."""

    overflow: int = 0
    bits: int = 8
    slope: float = 1.0


@dataclass(frozen=True)
class Geometry:
    """The sizes of a convolution: (height, width) each but for the weight, which is (out, in, height, width)."""

    weight: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]

    def arguments(self, image: Tensor, size: tuple[int, int]) -> tuple[Any, ...]:
        """Return the arguments of kernels about an image (N, in, H, W) whose output has this size."""
        shape = *image.shape[1:], self.weight[3]
        return image, *shape, *size, *self.stride, *self.padding, *self.dilation, *image.stride()


def multiply(rows: Tensor, weight: Weight) -> Tensor:
    """Return float rows (rows, columns), contiguous each, times the weight, as (rows, outputs) in their dtype."""
    groups = weight.scale.shape[1] if weight.has_groups and weight.scale is not None else 0
    group_words = weight.columns // groups // 64 if groups else 0
    words, is_wide = weight.panels.shape[1], rows.dtype is torch.float32
    blocks = blocks_of(max(len(rows), 1), weight.outputs, words, group_words, is_wide=is_wide)
    kernel = float_kernels.row_kernel if blocks.rows == 1 else float_kernels.rows_kernel
    output = rows.new_empty(len(rows), weight.outputs)
    input = rows, rows.stride(0), weight.scale if groups else None, group_words, groups
    _floats(kernel, output, len(rows), weight, blocks, _ONE_PIXEL, input)
    return output


def multiply_signs(rows: Tensor, weight: Weight, held: Held) -> Tensor:
    """Return sign(rows) for rows as in `multiply`, times the weight, as (rows, outputs) in their dtype."""
    blocks = blocks_of(max(len(rows), 1), weight.outputs, weight.panels.shape[1])
    kernel = sign_kernels.row_kernel if blocks.rows == 1 else sign_kernels.rows_kernel
    output = rows.new_empty(len(rows), weight.outputs)
    _signs(kernel, output, len(rows), weight, blocks, held, _ONE_PIXEL, (rows, rows.stride(0)))
    return output


def convolve(image: Tensor, weight: Weight, geometry: Geometry) -> Tensor:
    """Return the convolution of float images (N, in, H, W) with the weight, channels_last, in their dtype."""
    output, layout, size = _images(image, geometry, has_planes=False)
    rows = output.numel() // weight.outputs
    blocks = _image_blocks(rows, weight)
    _floats(float_kernels.patches_kernel, output, rows, weight, blocks, layout, geometry.arguments(image, size))
    return output


def convolve_signs(image: Tensor, weight: Weight, held: Held, geometry: Geometry, padding_value: int) -> Tensor:
    """Return the convolution of the signs of images (N, in, H, W) with the weight, in their dtype and format."""
    output, layout, size = _images(image, geometry, has_planes=image.is_contiguous())
    rows = output.numel() // weight.outputs
    blocks = _image_blocks(rows, weight)
    input = *geometry.arguments(image, size), padding_value
    _signs(sign_kernels.patches_kernel, output, rows, weight, blocks, held, layout, input)
    return output


def _images(image: Tensor, geometry: Geometry, *, has_planes: bool) -> tuple[Tensor, tuple[int, ...], tuple[int, int]]:
    """Return an empty output, its pixels, distances of pixels and of channels, and its height and width."""
    height, width = out_size(image.shape, geometry.weight[2:], geometry.stride, geometry.padding, geometry.dilation)
    kept = torch.contiguous_format if has_planes else torch.channels_last
    shape = len(image), geometry.weight[0], height, width
    output = torch.empty(shape, dtype=image.dtype, device=image.device, memory_format=kept)
    return output, (height * width, 1, height * width) if has_planes else _ONE_PIXEL, (height, width)


def _image_blocks(rows: int, weight: Weight) -> Blocks:
    """Return the blocks of a convolution; no kernel is for a single patch."""
    return blocks_of(max(rows, 2), weight.outputs, weight.panels.shape[1], is_wide=True)


def _floats(
    kernel: Any, output: Tensor, rows: int, weight: Weight, blocks: Blocks, layout: tuple[int, ...], input: Any
) -> None:
    factor = triton.language.float16 if output.dtype is torch.float16 else triton.language.bfloat16
    if not isinstance(kernel, triton.JITFunction):
        factor = triton.language.float32  # the interpreter multiplies no bfloat16
    finish = *layout, *weight.finish
    _launch(kernel, float_kernels.sum_kernel, output, rows, weight, blocks, finish, input, {}, {"FACTOR": factor})


def _signs(
    kernel: Any, output: Tensor, rows: int, weight: Weight, blocks: Blocks, held: Held, layout: tuple[int, ...],
    input: Any,
) -> None:  # fmt: skip
    finish = *layout, *weight.finish, 1 << held.bits - 1, held.slope
    constants = {"OVERFLOW": held.overflow}
    _launch(kernel, sign_kernels.sum_kernel, output, rows, weight, blocks, finish, input, constants, constants)


def _launch(
    kernel: Any, sum_kernel: Any, output: Tensor, rows: int, weight: Weight, blocks: Blocks, finish: tuple[Any, ...],
    input: tuple[Any, ...], constants: dict[str, Any], own_constants: dict[str, Any],
) -> None:  # fmt: skip
    """Run a kernel for all tiles, and then, if programs shared columns, the kernel that adds their sums."""
    if not rows:
        return
    sizes = rows, weight.outputs, weight.columns, *weight.panels.shape[:2]
    splits, made = blocks.splits, output
    if splits > 1:
        dtype = torch.float32 if sum_kernel is float_kernels.sum_kernel else torch.int32
        made = torch.empty(splits, rows, weight.outputs, dtype=dtype, device=output.device)
    tiles = triton.cdiv(rows, blocks.rows) * triton.cdiv(weight.outputs, blocks.outputs)
    kernel[tiles, splits](
        made, weight.panels, *sizes, *finish, *input, **own_constants, SPLITS=splits, BLOCK_ROWS=blocks.rows,
        BLOCK_OUTPUTS=blocks.outputs, BLOCK_WORDS=blocks.words, num_warps=blocks.warps, **_ROUNDS_TWICE,
    )  # fmt: skip
    if splits > 1:
        tiles = triton.cdiv(rows, blocks.rows) * triton.cdiv(weight.outputs, _SUMMED)
        sum_kernel[tiles,](
            output, made, rows, weight.outputs, *finish, **constants, SPLITS=splits, BLOCK_ROWS=blocks.rows,
            BLOCK_OUTPUTS=_SUMMED, **_ROUNDS_TWICE,
        )  # fmt: skip
