"""Multiply floats by signs: Triton kernels for one row, for rows and for patches of images."""

import triton
import triton.language as tl

from proxconnect.gpu.outputs import load_part, store, store_part
from proxconnect.gpu.tiles import patch_tile, pixels_of, row_tile, sign_tile, tile_of, word_tile


@triton.jit
def multiplied(sums, signs, tile):
    """Add the product of ±1 (outputs, columns) and floats (columns, rows) to float32 sums.

    A float32 is cut into three numbers of 8 bits each, which bfloat16 holds exactly, so every product is exact. TF32
    would round the inputs to 11 bits.
    """
    if tile.dtype == tl.float32:
        for _ in tl.static_range(3):
            top = (tile.to(tl.int32, bitcast=True) & -65536).to(tl.float32, bitcast=True)
            sums = tl.dot(signs, top.to(signs.dtype), sums, input_precision="ieee")
            tile = tl.where(tl.abs(tile) == float("inf"), 0.0, tile - top)
    else:
        sums = tl.dot(signs, tile.to(signs.dtype), sums, input_precision="ieee")
    return sums


@triton.jit
def scale_tile(group_scale, group, outputs, output_count, group_count):
    """Load the scales that `group_scales` laid out for these outputs, in float32; `group` is broadcast with them."""
    at = (outputs // 32).to(tl.int64) * group_count * 32 + outputs % 32
    return tl.load(group_scale + at + group * 32, mask=outputs < output_count, other=0).to(tl.float32)


@triton.jit(do_not_specialize=["row_count"])
def row_kernel(
    output, panels, row_count, output_count, column_count, panel_count, word_count, pixels, pixel_step, channel_step,
    scale, scale_step, bias, x, row_step, group_scale, group_words, group_count,
    FACTOR: tl.constexpr, SPLITS: tl.constexpr, BLOCK_ROWS: tl.constexpr, BLOCK_OUTPUTS: tl.constexpr,
    BLOCK_WORDS: tl.constexpr,
):  # fmt: skip
    """Multiply a single row in each program, BLOCK_ROWS = 1, by additions: a lane has the same bit of many words."""
    rows, outputs = tile_of(output_count, BLOCK_ROWS, BLOCK_OUTPUTS)
    lanes = tl.arange(0, 32)
    sums = tl.zeros([BLOCK_OUTPUTS, 32], tl.float32)
    for step in range(tl.program_id(1), tl.cdiv(word_count, BLOCK_WORDS), SPLITS):
        words = step * BLOCK_WORDS + tl.arange(0, BLOCK_WORDS)
        word = word_tile(panels, outputs[None, :], words[:, None], panel_count, word_count)
        for half in tl.static_range(2):
            columns = (words * 64 + 32 * half)[:, None] + lanes[None, :]
            row = rows.to(tl.int64)[:, None] * row_step
            entries = tl.load(x + row + columns, mask=columns < column_count, other=0.0).to(tl.float32)
            # A bit of 1 turns the sign of -x. Masks would need more predicates than a thread has.
            turned = ((word >> (32 * half)).to(tl.int32)[:, :, None] << (31 - lanes)[None, None, :]) & (-(2**31))
            signed = ((-entries).to(tl.int32, bitcast=True)[:, None, :] ^ turned).to(tl.float32, bitcast=True)
            if group_scale is not None:
                groups = tl.minimum(words // group_words, group_count - 1)  # words beyond the last one are no group's
                signed *= scale_tile(group_scale, groups[:, None], outputs[None, :], output_count, group_count)[
                    :, :, None
                ]
            sums += tl.sum(signed, 0)
    total = tl.sum(sums, 1)[:, None]
    if SPLITS > 1:
        store_part(output, total, rows, outputs, row_count, output_count)
    else:
        store(
            output, total, rows, outputs, row_count, output_count, pixels, pixel_step, channel_step, scale, scale_step,
            bias,
        )  # fmt: skip


@triton.jit(do_not_specialize=["row_count"])
def rows_kernel(
    output, panels, row_count, output_count, column_count, panel_count, word_count, pixels, pixel_step, channel_step,
    scale, scale_step, bias, x, row_step, group_scale, group_words, group_count,
    FACTOR: tl.constexpr, SPLITS: tl.constexpr, BLOCK_ROWS: tl.constexpr, BLOCK_OUTPUTS: tl.constexpr,
    BLOCK_WORDS: tl.constexpr,
):  # fmt: skip
    """Multiply rows by tensor cores; BLOCK_WORDS words are part of one group."""
    rows, outputs = tile_of(output_count, BLOCK_ROWS, BLOCK_OUTPUTS)
    sums = tl.zeros([BLOCK_OUTPUTS, BLOCK_ROWS], tl.float32)
    for step in range(tl.program_id(1), tl.cdiv(word_count, BLOCK_WORDS), SPLITS):
        first = step * BLOCK_WORDS
        columns = first * 64 + tl.arange(0, 64 * BLOCK_WORDS)
        tile = row_tile(x, row_step, rows, columns, row_count, column_count)
        words = first + tl.arange(0, BLOCK_WORDS)
        signs = sign_tile(panels, outputs, words, panel_count, word_count, FACTOR)
        if group_scale is not None:
            scales = scale_tile(group_scale, first // group_words, outputs, output_count, group_count)
            sums += multiplied(tl.zeros_like(sums), signs, tile) * scales[:, None]
        else:
            sums = multiplied(sums, signs, tile)
    if SPLITS > 1:
        store_part(output, sums, rows, outputs, row_count, output_count)
    else:
        store(
            output, sums, rows, outputs, row_count, output_count, pixels, pixel_step, channel_step, scale, scale_step,
            bias,
        )  # fmt: skip


@triton.jit(do_not_specialize=["row_count"])
def patches_kernel(
    output, panels, row_count, output_count, column_count, panel_count, word_count, pixels, pixel_step, channel_step,
    scale, scale_step, bias, x, channels, height, width, kernel_width, out_height, out_width, height_stride,
    width_stride, height_padding, width_padding, height_dilation, width_dilation, x_image_step, x_channel_step,
    x_row_step, x_pixel_step,
    FACTOR: tl.constexpr, SPLITS: tl.constexpr, BLOCK_ROWS: tl.constexpr, BLOCK_OUTPUTS: tl.constexpr,
    BLOCK_WORDS: tl.constexpr,
):  # fmt: skip
    """Convolve images by tensor cores: a row is the patch of an output pixel."""
    rows, outputs = tile_of(output_count, BLOCK_ROWS, BLOCK_OUTPUTS)
    top, left, corner = pixels_of(
        rows, out_height, out_width, height_stride, width_stride, height_padding, width_padding, x_image_step,
        x_row_step, x_pixel_step,
    )  # fmt: skip
    sums = tl.zeros([BLOCK_OUTPUTS, BLOCK_ROWS], tl.float32)
    for step in range(tl.program_id(1), tl.cdiv(word_count, BLOCK_WORDS), SPLITS):
        columns = step * BLOCK_WORDS * 64 + tl.arange(0, 64 * BLOCK_WORDS)
        tile, _ = patch_tile(
            x, rows, columns, row_count, column_count, top, left, corner, channels, height, width, kernel_width,
            height_dilation, width_dilation, x_channel_step, x_row_step, x_pixel_step,
        )  # fmt: skip
        words = step * BLOCK_WORDS + tl.arange(0, BLOCK_WORDS)
        sums = multiplied(sums, sign_tile(panels, outputs, words, panel_count, word_count, FACTOR), tile)
    if SPLITS > 1:
        store_part(output, sums, rows, outputs, row_count, output_count)
    else:
        store(
            output, sums, rows, outputs, row_count, output_count, pixels, pixel_step, channel_step, scale, scale_step,
            bias,
        )  # fmt: skip


@triton.jit(do_not_specialize=["row_count"])
def sum_kernel(
    output, parts, row_count, output_count, pixels, pixel_step, channel_step, scale, scale_step, bias,
    SPLITS: tl.constexpr, BLOCK_ROWS: tl.constexpr, BLOCK_OUTPUTS: tl.constexpr,
):  # fmt: skip
    """Add the sums of all splits, in their order, and store the outputs."""
    rows, outputs = tile_of(output_count, BLOCK_ROWS, BLOCK_OUTPUTS)
    sums = tl.zeros([BLOCK_OUTPUTS, BLOCK_ROWS], tl.float32)
    for split in range(SPLITS):
        sums += load_part(parts, tl.cast(split, tl.int64), rows, outputs, row_count, output_count)
    store(
        output, sums, rows, outputs, row_count, output_count, pixels, pixel_step, channel_step, scale, scale_step, bias
    )
