"""The kernels of the quantizer: latents through F, gradients through B.

A program loads a short row once and keeps it in registers. The parts of a long row go to many programs, which leave
partial sums that the next kernel adds in a fixed order, without atomics: the same bits in every run. Arithmetic is in
float32. A tile starts at a 64-bit offset and counts on in 32 bits.
"""

import triton
import triton.language as tl

from proxconnect.gpu.quantizer_curves import SIGN, constants, curve, signs, slope

MOST_PARTS = tl.constexpr(512)
"""Parts of one row: enough programs for the largest GPU, and few partial sums for each of them to add."""

SMALLEST_INVERTED = tl.constexpr(2.0**-100)
"""As in `quantizer/scales.py`."""


@triton.jit(do_not_specialize=["rows"])
def quantize_rows(
    x, y, inside, statistics, mu, fixed, rows, columns, CURVE: tl.constexpr, IS_UNIT: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """Write α·F, the statistics and |x| ≤ 1 of `ROWS` rows a program, each of at most `COLUMNS` entries."""
    first = tl.program_id(0).to(tl.int64) * ROWS
    start, at, within = _tile(first, 0, rows, columns, ROWS, COLUMNS)
    w = tl.load(x + start + at, mask=within, other=0.0).to(tl.float32)
    mean = _mean(tl.sum(tl.abs(w), axis=1), columns)
    divisor, lift, inverse = _stretch(mean)
    if inside is not None:
        tl.store(inside + start + at, _is_inside(w, divisor[:, None]), mask=within)
    if CURVE == SIGN:  # of w itself, since x may underflow
        f, gain = signs(w), 1.0
        ratio = tl.full([ROWS], 1.0, tl.float32)
    else:
        inner, gain, jump = constants(_sharpness(mu, fixed), CURVE)
        scaled = w * lift[:, None] * inverse[:, None]
        f = tl.where(within, curve(inner * scaled, jump, CURVE), 0.0)
        ratio = _ratio(mean, tl.sum(scaled * f, axis=1), tl.sum(f * f, axis=1), gain)
    by = ratio * gain if IS_UNIT else ratio * gain * mean
    tl.store(y + start + at, f * by[:, None], mask=within)
    row = first + tl.arange(0, ROWS)
    _keep(statistics, row, rows, divisor, ratio, row < rows, IS_UNIT)
    _keep_sharpness(statistics, mu, rows)


@triton.jit(do_not_specialize=["parts"])
def sum_magnitudes(x, sums, columns, per_part, parts, BLOCK: tl.constexpr):
    """Write Σ|w| of one part of a row."""
    start, count = _part(columns, per_part, parts)
    total = tl.zeros([BLOCK], tl.float32)
    for begin in range(0, count, BLOCK):
        at = begin + tl.arange(0, BLOCK)
        total += tl.abs(tl.load(x + start + at, mask=at < count, other=0.0).to(tl.float32))
    tl.store(sums + tl.program_id(0), tl.sum(total, axis=0))


@triton.jit(do_not_specialize=["parts", "programs"])
def correlate(x, sums, mu, fixed, programs, columns, per_part, parts, CURVE: tl.constexpr, BLOCK: tl.constexpr):
    """Write ⟨x, F⟩ and ⟨F, F⟩ of one part of a row, for its Σ|w| by parts; F without its gain."""
    start, count = _part(columns, per_part, parts)
    _, lift, inverse = _stretch(_mean(_total(sums, parts), columns))
    inner, _, jump = constants(_sharpness(mu, fixed), CURVE)
    products = tl.zeros([BLOCK], tl.float32)
    squares = tl.zeros([BLOCK], tl.float32)
    for begin in range(0, count, BLOCK):
        at = begin + tl.arange(0, BLOCK)
        scaled = tl.load(x + start + at, mask=at < count, other=0.0).to(tl.float32) * lift * inverse
        f = tl.where(at < count, curve(inner * scaled, jump, CURVE), 0.0)
        products = tl.fma(scaled, f, products)
        squares = tl.fma(f, f, squares)
    program = tl.program_id(0)
    tl.store(sums + programs + program, tl.sum(products, axis=0))
    tl.store(sums + 2 * programs + program, tl.sum(squares, axis=0))


@triton.jit(do_not_specialize=["rows", "parts"])
def quantize_parts(
    x, y, inside, statistics, sums, mu, fixed, rows, columns, per_part, parts, CURVE: tl.constexpr,
    IS_UNIT: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Write α·F and |x| ≤ 1 of one part of a row, and once a row its statistics, for its sums by parts."""
    start, count = _part(columns, per_part, parts)
    mean = _mean(_total(sums, parts), columns)
    divisor, lift, inverse = _stretch(mean)
    ratio, inner, gain, jump = 1.0, 1.0, 1.0, 0.0
    if CURVE != SIGN:
        inner, gain, jump = constants(_sharpness(mu, fixed), CURVE)
        programs = rows * parts
        ratio = _ratio(mean, _total(sums + programs, parts), _total(sums + 2 * programs, parts), gain)
    else:
        lift, inverse = 1.0, 1.0
    by = ratio * gain if IS_UNIT else ratio * gain * mean
    for begin in range(0, count, BLOCK):
        at = begin + tl.arange(0, BLOCK)
        w = tl.load(x + start + at, mask=at < count, other=0.0).to(tl.float32)
        tl.store(y + start + at, curve(inner * (w * lift * inverse), jump, CURVE) * by, mask=at < count)
        if inside is not None:
            tl.store(inside + start + at, _is_inside(w, divisor), mask=at < count)
    row = tl.program_id(0) // parts
    _keep(statistics, row, rows, divisor, ratio, tl.program_id(0) % parts == 0, IS_UNIT)
    _keep_sharpness(statistics, mu, rows)


@triton.jit
def quantize_entries(x, y, inside, statistics, mu, fixed, entries, CURVE: tl.constexpr, BLOCK: tl.constexpr):
    """Write F and |x| ≤ 1 of `BLOCK` entries without a scale."""
    start, at, within = _tile(0, tl.program_id(0), 1, entries, 1, BLOCK)
    w = tl.load(x + start + at, mask=within, other=0.0).to(tl.float32)
    inner, gain, jump = constants(_sharpness(mu, fixed), CURVE)
    tl.store(y + start + at, curve(inner * w, jump, CURVE) * gain, mask=within)
    if inside is not None:
        tl.store(inside + start + at, _is_inside(w, 1.0), mask=within)
    _keep_sharpness(statistics, mu, 0)


@triton.jit(do_not_specialize=["rows"])
def multiply(
    x, g, inside, statistics, y, fixed, rows, columns, CURVE: tl.constexpr, IS_SCALED: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """Write factor·B·g of a tile of `ROWS` times `COLUMNS`; the B of `SIGN` is `inside`, or 1 without it."""
    blocks = tl.cdiv(columns, COLUMNS)
    first = (tl.program_id(0) // blocks).to(tl.int64) * ROWS
    start, at, within = _tile(first, tl.program_id(0) % blocks, rows, columns, ROWS, COLUMNS)
    by = tl.load(g + start + at, mask=within, other=0.0).to(tl.float32)
    row = first + tl.arange(0, ROWS)
    factor = 1.0
    if IS_SCALED:
        factor = tl.load(statistics + rows + row, mask=row < rows, other=0.0)[:, None]
    if CURVE == SIGN:
        if inside is not None:
            factor = factor * tl.load(inside + start + at, mask=within, other=0).to(tl.float32)
    else:
        kept = statistics + 2 * rows if IS_SCALED else statistics
        inner, gain, _ = constants(_sharpness(kept, fixed), CURVE)
        scaled = tl.load(x + start + at, mask=within, other=0.0).to(tl.float32)
        if IS_SCALED:
            _, lift, inverse = _stretch(tl.load(statistics + row, mask=row < rows, other=1.0))
            scaled = scaled * lift[:, None] * inverse[:, None]
        factor = slope(inner * scaled, CURVE) * (inner * gain * factor)
    tl.store(y + start + at, by * factor, mask=within)


@triton.jit
def _tile(first, block, rows, columns, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """Return the offset of a tile from row `first` on, those of its entries in it, and which of them exist."""
    before = tl.cast(block, tl.int64) * COLUMNS
    row = tl.arange(0, ROWS)[:, None]
    column = tl.arange(0, COLUMNS)[None, :]
    within = (row < rows - first) & (column < columns - before)
    return first * columns + before, row * columns + column, within


@triton.jit
def _part(columns, per_part, parts):
    """Return the offset of the part of a row that this program has, and its number of entries."""
    program = tl.program_id(0).to(tl.int64)
    before = program % parts * per_part
    return program // parts * columns + before, tl.minimum(columns - before, per_part).to(tl.int32)


@triton.jit
def _total(sums, parts):
    """Add the partial sums of the row that this program has a part of."""
    at = tl.arange(0, MOST_PARTS)
    first = tl.program_id(0) // parts * parts
    return tl.sum(tl.load(sums + first + at, mask=at < parts, other=0.0), axis=0)


@triton.jit
def _mean(total, columns):
    """Return the mean of a row, correctly rounded, which `/` is not: rows of ±1 have the mean 1, and so |x| ≤ 1."""
    return tl.div_rn(total, tl.cast(columns, tl.float32))


@triton.jit
def _sharpness(mu, fixed):
    """Return μ in float32: `fixed`, or what memory holds now if that is None."""
    return tl.load(mu).to(tl.float32) if fixed is None else fixed


@triton.jit
def _stretch(mean):
    """Return the divisor, and two factors whose product is its inverse, which alone may exceed float32."""
    divisor = tl.where(mean == 0.0, 1.0, mean)
    lift = tl.where(divisor < 2.0**-90, 2.0**100, tl.where(divisor > 2.0**90, 2.0**-100, 1.0))
    return divisor, lift, tl.div_rn(1.0, divisor * lift)


@triton.jit
def _ratio(mean, correlation, energy, gain):
    """Return α/ᾱ, which is 1 for ᾱ = 0 and 0 for F = 0."""
    fitted = tl.div_rn(correlation, tl.where(energy == 0.0, 1.0, energy))
    return tl.where(mean == 0.0, 1.0, tl.div_rn(fitted, gain))


@triton.jit
def _is_inside(w, divisor):
    """Return True for |w/divisor| ≤ 1, and for NaN."""
    return (tl.abs(w) > divisor) == 0


@triton.jit
def _keep(statistics, row, rows, divisor, ratio, mask, IS_UNIT: tl.constexpr):
    """Write the divisors and then the factors of rows."""
    factor = tl.div_rn(ratio, tl.where(divisor < SMALLEST_INVERTED, SMALLEST_INVERTED, divisor)) if IS_UNIT else ratio
    tl.store(statistics + row, divisor, mask=mask)
    tl.store(statistics + rows + row, factor, mask=mask)


@triton.jit
def _keep_sharpness(statistics, mu, rows):
    """Write the μ of this pass behind the statistics, because the buffer may move before the backward pass."""
    if (mu is not None) and (statistics is not None):
        tl.store(statistics + 2 * rows, tl.load(mu).to(tl.float32), mask=tl.program_id(0) == 0)
