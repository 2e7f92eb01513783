"""Multiply signs by signs, exactly: Triton kernels for one row, for rows and for patches of images."""

import triton
import triton.language as tl

from proxconnect.gpu.outputs import load_part, store, store_part
from proxconnect.gpu.tiles import patch_tile, pixels_of, row_tile, sign_tile, tile_of, word_tile

NAN: tl.constexpr = tl.constexpr(-(2**31))
"""The mark of a row with NaN among int32 sums, none of which is below -(2³¹ - 1)."""


@triton.jit
def marked(sums, nan):
    """Return sums (outputs, rows), with the mark of NaN in rows whose count `nan` is above 0."""
    return tl.where(nan[None, :] > 0, NAN, sums)


@triton.jit
def held(sums, OVERFLOW: tl.constexpr, bound, slope):
    """Return int32 sums as float32 after overflow in an accumulator of ±`bound`, and NaN for marked ones.

    OVERFLOW is a number of `overflow_of`: 0 never overflows, 1 wraps, 2 saturates, 3 is cyclic.
    """
    kept = sums
    if OVERFLOW == 2:
        kept = tl.minimum(tl.maximum(sums, -bound), bound - 1)
    elif OVERFLOW != 0:
        kept = ((sums + bound) & (2 * bound - 1)) - bound
    result = kept.to(tl.float32)
    if OVERFLOW == 3:
        falling = slope * (bound - tl.abs(result))
        turned = tl.where(result < 0, -falling, falling)
        result = tl.where(tl.abs(result) <= falling, result, tl.where(result == 0, 0.0, turned))
    return tl.where(sums == NAN, float("nan"), result)


@triton.jit
def bit_count(bits):
    """Return the number of ones of int32 in each entry."""
    pairs = bits - ((bits >> 1) & 0x55555555)
    fours = (pairs & 0x33333333) + ((pairs >> 2) & 0x33333333)
    return (((fours + (fours >> 4)) & 0x0F0F0F0F) * 0x01010101) >> 24


@triton.jit(do_not_specialize=["row_count"])
def row_kernel(
    output, panels, row_count, output_count, column_count, panel_count, word_count, pixels, pixel_step, channel_step,
    scale, scale_step, bias, bound, slope, x, row_step,
    OVERFLOW: tl.constexpr, SPLITS: tl.constexpr, BLOCK_ROWS: tl.constexpr, BLOCK_OUTPUTS: tl.constexpr,
    BLOCK_WORDS: tl.constexpr,
):  # fmt: skip
    """Multiply a single row in each program, BLOCK_ROWS = 1, by counting the bits in which it differs."""
    rows, outputs = tile_of(output_count, BLOCK_ROWS, BLOCK_OUTPUTS)
    lanes = tl.arange(0, 32)
    different = tl.zeros([BLOCK_WORDS, BLOCK_OUTPUTS], tl.int32)
    nan = tl.zeros([BLOCK_WORDS, 32], tl.int32)
    seen = tl.zeros([BLOCK_WORDS, 32], tl.int32)
    for step in range(tl.program_id(1), tl.cdiv(word_count, BLOCK_WORDS), SPLITS):
        words = step * BLOCK_WORDS + tl.arange(0, BLOCK_WORDS)
        word = word_tile(panels, outputs[None, :], words[:, None], panel_count, word_count)
        for half in tl.static_range(2):
            columns = (words * 64 + 32 * half)[:, None] + lanes[None, :]
            known = columns < column_count
            row = rows.to(tl.int64)[:, None] * row_step
            # The bits of the weight beyond the last column are 0, so entries there count as negative.
            entries = tl.load(x + row + columns, mask=known, other=-1.0).to(tl.float32)
            nan += (entries != entries).to(tl.int32)
            seen += known.to(tl.int32)
            bits = tl.sum((entries >= 0).to(tl.int32) << lanes[None, :], 1)
            different += bit_count((word >> (32 * half)).to(tl.int32) ^ bits[:, None])
    sums = (tl.sum(tl.sum(seen, 1), 0) - 2 * tl.sum(different, 0))[:, None]
    sums = marked(sums, tl.sum(tl.sum(nan, 1), 0) + tl.zeros([BLOCK_ROWS], tl.int32))
    if SPLITS > 1:
        store_part(output, sums, rows, outputs, row_count, output_count)
    else:
        store(
            output, held(sums, OVERFLOW, bound, slope), rows, outputs, row_count, output_count, pixels, pixel_step,
            channel_step, scale, scale_step, bias,
        )  # fmt: skip


@triton.jit(do_not_specialize=["row_count"])
def rows_kernel(
    output, panels, row_count, output_count, column_count, panel_count, word_count, pixels, pixel_step, channel_step,
    scale, scale_step, bias, bound, slope, x, row_step,
    OVERFLOW: tl.constexpr, SPLITS: tl.constexpr, BLOCK_ROWS: tl.constexpr, BLOCK_OUTPUTS: tl.constexpr,
    BLOCK_WORDS: tl.constexpr,
):  # fmt: skip
    """Multiply rows as bytes, by tensor cores."""
    rows, outputs = tile_of(output_count, BLOCK_ROWS, BLOCK_OUTPUTS)
    sums = tl.zeros([BLOCK_OUTPUTS, BLOCK_ROWS], tl.int32)
    nan = tl.zeros([BLOCK_ROWS], tl.int32)
    for step in range(tl.program_id(1), tl.cdiv(word_count, BLOCK_WORDS), SPLITS):
        columns = step * BLOCK_WORDS * 64 + tl.arange(0, 64 * BLOCK_WORDS)
        tile = row_tile(x, row_step, rows, columns, row_count, column_count).to(tl.float32)
        nan = tl.maximum(nan, tl.max((tile != tile).to(tl.int32), 0))
        signs = tl.where((columns < column_count)[:, None], tl.where(tile >= 0, 1, -1), 0).to(tl.int8)
        words = step * BLOCK_WORDS + tl.arange(0, BLOCK_WORDS)
        weight = sign_tile(panels, outputs, words, panel_count, word_count, tl.int8)
        sums = tl.dot(weight, signs, sums, out_dtype=tl.int32)
    sums = marked(sums, nan)
    if SPLITS > 1:
        store_part(output, sums, rows, outputs, row_count, output_count)
    else:
        store(
            output, held(sums, OVERFLOW, bound, slope), rows, outputs, row_count, output_count, pixels, pixel_step,
            channel_step, scale, scale_step, bias,
        )  # fmt: skip


@triton.jit(do_not_specialize=["row_count"])
def patches_kernel(
    output, panels, row_count, output_count, column_count, panel_count, word_count, pixels, pixel_step, channel_step,
    scale, scale_step, bias, bound, slope, x, channels, height, width, kernel_width, out_height, out_width,
    height_stride, width_stride, height_padding, width_padding, height_dilation, width_dilation, x_image_step,
    x_channel_step, x_row_step, x_pixel_step, border,
    OVERFLOW: tl.constexpr, SPLITS: tl.constexpr, BLOCK_ROWS: tl.constexpr, BLOCK_OUTPUTS: tl.constexpr,
    BLOCK_WORDS: tl.constexpr,
):  # fmt: skip
    """Convolve the signs of images as bytes, by tensor cores; the padding holds `border`, which is -1, 0 or 1."""
    rows, outputs = tile_of(output_count, BLOCK_ROWS, BLOCK_OUTPUTS)
    top, left, corner = pixels_of(
        rows, out_height, out_width, height_stride, width_stride, height_padding, width_padding, x_image_step,
        x_row_step, x_pixel_step,
    )  # fmt: skip
    sums = tl.zeros([BLOCK_OUTPUTS, BLOCK_ROWS], tl.int32)
    nan = tl.zeros([BLOCK_ROWS], tl.int32)
    for step in range(tl.program_id(1), tl.cdiv(word_count, BLOCK_WORDS), SPLITS):
        columns = step * BLOCK_WORDS * 64 + tl.arange(0, 64 * BLOCK_WORDS)
        tile, inside = patch_tile(
            x, rows, columns, row_count, column_count, top, left, corner, channels, height, width, kernel_width,
            height_dilation, width_dilation, x_channel_step, x_row_step, x_pixel_step,
        )  # fmt: skip
        tile = tile.to(tl.float32)
        nan = tl.maximum(nan, tl.max((tile != tile).to(tl.int32), 0))
        signs = tl.where(inside, tl.where(tile >= 0, 1, -1), border)
        signs = tl.where((columns < column_count)[:, None], signs, 0).to(tl.int8)
        words = step * BLOCK_WORDS + tl.arange(0, BLOCK_WORDS)
        weight = sign_tile(panels, outputs, words, panel_count, word_count, tl.int8)
        sums = tl.dot(weight, signs, sums, out_dtype=tl.int32)
    sums = marked(sums, nan)
    if SPLITS > 1:
        store_part(output, sums, rows, outputs, row_count, output_count)
    else:
        store(
            output, held(sums, OVERFLOW, bound, slope), rows, outputs, row_count, output_count, pixels, pixel_step,
            channel_step, scale, scale_step, bias,
        )  # fmt: skip


@triton.jit(do_not_specialize=["row_count"])
def sum_kernel(
    output, parts, row_count, output_count, pixels, pixel_step, channel_step, scale, scale_step, bias, bound, slope,
    OVERFLOW: tl.constexpr, SPLITS: tl.constexpr, BLOCK_ROWS: tl.constexpr, BLOCK_OUTPUTS: tl.constexpr,
):  # fmt: skip
    """Add the sums of all splits, of which one mark of NaN marks the sum, and store the outputs."""
    rows, outputs = tile_of(output_count, BLOCK_ROWS, BLOCK_OUTPUTS)
    sums = tl.zeros([BLOCK_OUTPUTS, BLOCK_ROWS], tl.int32)
    for split in range(SPLITS):
        part = load_part(parts, tl.cast(split, tl.int64), rows, outputs, row_count, output_count)
        sums = tl.where((part == NAN) | (sums == NAN), NAN, sums + part)
    store(
        output, held(sums, OVERFLOW, bound, slope), rows, outputs, row_count, output_count, pixels, pixel_step,
        channel_step, scale, scale_step, bias,
    )  # fmt: skip
