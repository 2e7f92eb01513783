"""Read tiles of prepacked weights, of rows and of patches: parts of Triton kernels, which are inlined there.

A tile of weights is (outputs, columns) and a tile of inputs (columns, rows), so that their product is (outputs, rows).
The weight is the left factor because tensor cores of Hopper read that one from registers, where it is unpacked. The
right factor may have as few as 16 rows.
"""

import triton
import triton.language as tl


@triton.jit
def tile_of(output_count, BLOCK_ROWS: tl.constexpr, BLOCK_OUTPUTS: tl.constexpr):
    """Return the rows and the outputs of this program; those with the same rows follow each other."""
    across = tl.cdiv(output_count, BLOCK_OUTPUTS)
    rows = tl.program_id(0) // across * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)
    outputs = tl.program_id(0) % across * BLOCK_OUTPUTS + tl.arange(0, BLOCK_OUTPUTS)
    return rows, outputs


@triton.jit
def word_tile(panels, outputs, words, panel_count, word_count):
    """Load 64 signs of an output for each word, int64, and 0 beyond the prepacked weight; both arguments broadcast."""
    start = (outputs // 8).to(tl.int64) * word_count * 8 + outputs % 8
    # Panels, and not outputs, are compared, so that adjacent words of a panel are loaded together.
    return tl.load(panels + start + words * 8, mask=(outputs // 8 < panel_count) & (words < word_count), other=0)


@triton.jit
def sign_tile(panels, outputs, words, panel_count, word_count, FACTOR: tl.constexpr):
    """Unpack the signs (outputs, 64·words) to ±1 of the dtype FACTOR."""
    word = word_tile(panels, outputs[:, None], words[None, :], panel_count, word_count)
    halves = tl.join(word.to(tl.int32), (word >> 32).to(tl.int32))
    bits = (halves[:, :, :, None] >> tl.arange(0, 32)[None, None, None, :]) & 1
    one = tl.full([1], 1, FACTOR)
    return tl.reshape(tl.where(bits != 0, one, -one), [outputs.shape[0], 64 * words.shape[0]])


@triton.jit
def row_tile(x, row_step, rows, columns, row_count, column_count):
    """Load (columns, rows) of a matrix whose rows are contiguous, and 0 outside it."""
    known = (columns < column_count)[:, None] & (rows < row_count)[None, :]
    return tl.load(x + columns[:, None] + (rows.to(tl.int64) * row_step)[None, :], mask=known, other=0.0)


@triton.jit
def pixels_of(
    rows, out_height, out_width, height_stride, width_stride, height_padding, width_padding, image_step, row_step,
    pixel_step,
):  # fmt: skip
    """Return the top and the left of the patch of each output pixel, and the address of that corner in the image."""
    within = rows % (out_height * out_width)
    top = within // out_width * height_stride - height_padding
    left = within % out_width * width_stride - width_padding
    image = (rows // (out_height * out_width)).to(tl.int64) * image_step
    return top, left, image + top.to(tl.int64) * row_step + left.to(tl.int64) * pixel_step


@triton.jit
def patch_tile(
    x, rows, columns, row_count, column_count, top, left, corner, channels, height, width, kernel_width,
    height_dilation, width_dilation, channel_step, row_step, pixel_step,
):  # fmt: skip
    """Load (columns, rows) of patches, with 0 in the padding; return them, and which entries are in the image.

    The columns of a patch are in the order (height, width, channel).
    """
    tap = columns // channels
    down, right = tap // kernel_width * height_dilation, tap % kernel_width * width_dilation
    at = (
        (columns % channels).to(tl.int64) * channel_step
        + down.to(tl.int64) * row_step
        + right.to(tl.int64) * pixel_step
    )
    line, place = top[None, :] + down[:, None], left[None, :] + right[:, None]
    inside = (line >= 0) & (line < height) & (place >= 0) & (place < width)
    known = inside & (columns < column_count)[:, None] & (rows < row_count)[None, :]
    return tl.load(x + corner[None, :] + at[:, None], mask=known, other=0.0), inside
