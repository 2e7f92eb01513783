"""Write sums as outputs: parts of Triton kernels, which are inlined there."""

import triton
import triton.language as tl


@triton.jit
def store_part(parts, sums, rows, outputs, row_count, output_count):
    """Store the sums (outputs, rows) of one of several programs that share the columns, as (split, rows, outputs)."""
    known = (outputs < output_count)[:, None] & (rows < row_count)[None, :]
    row = tl.program_id(1).to(tl.int64) * row_count + rows
    tl.store(parts + (row * output_count)[None, :] + outputs[:, None], sums, mask=known)


@triton.jit
def load_part(parts, split, rows, outputs, row_count, output_count):
    """Load the sums (outputs, rows) that `store_part` stored for a split, an int64 scalar."""
    known = (outputs < output_count)[:, None] & (rows < row_count)[None, :]
    row = split * row_count + rows
    return tl.load(parts + (row * output_count)[None, :] + outputs[:, None], mask=known, other=0)


@triton.jit
def store(
    output, sums, rows, outputs, row_count, output_count, pixels, pixel_step, channel_step, scale, scale_step, bias
):
    """Multiply float32 sums (outputs, rows) by the scale, add the bias, and store them in the dtype of the output.

    A row is one of `pixels` pixels of an image, or an image of one pixel.
    """
    known = outputs < output_count
    if scale is not None:
        sums *= tl.load(scale + outputs * scale_step, mask=known, other=0).to(tl.float32)[:, None]
    if bias is not None:
        sums += tl.load(bias + outputs, mask=known, other=0).to(tl.float32)[:, None]
    start = (rows // pixels).to(tl.int64) * pixels * output_count + (rows % pixels).to(tl.int64) * pixel_step
    at = start[None, :] + (outputs.to(tl.int64) * channel_step)[:, None]
    tl.store(output + at, sums.to(output.dtype.element_ty), mask=known[:, None] & (rows < row_count)[None, :])
