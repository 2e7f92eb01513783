// The sums of a tile become floats, and take epilogue steps.
//
// V has: `outputs`, the floats of a vector, and `fma`, which rounds once.
#pragma once

#include "epilogue/block_affine.hpp"
#include "epilogue/finished_numbers.hpp"
#include "int8/kernels.hpp"
#include "isa/four_floats.hpp"
#include "runtime/scratch.hpp"

namespace proxconnect {
namespace {

// 128 times the weight sum of each output of a tile, 0 beyond the last.
struct alignas(64) TileTotals {
    int32_t of[TILE] = {};

    TileTotals(const ByteOutputs& o, int64_t block, int64_t blocks, int64_t steps) {
        for (int64_t i = 0; i < blocks; ++i) {
            const int8_t* const behind = o.panels + (block + i) * block_bytes(steps) + steps * STEP_BYTES;
            std::memcpy(of + i * BLOCK, behind, TOTALS_BYTES);
        }
    }

    // Return the numbers that the sums of outputs from c on represent.
    template <class V>
    Floats<V> numbers(const int32_t* sums, int64_t c, float quantum) const {
        const Ints<V> exact = loaded<Ints<V>>(sums + c) - loaded<Ints<V>>(of + c);
        return __builtin_convertvector(exact, Floats<V>) * quantum;
    }
};

struct TileAffine : BlockAffine<TILE> {
    TileTotals totals;

    TileAffine(const ByteOutputs& o, int64_t block, int64_t blocks, int64_t steps)
        : BlockAffine(o.affine, block * BLOCK, least(blocks * BLOCK, o.n - block * BLOCK)),
          totals(o, block, blocks, steps) {}
};

template <class V>
struct TileOutputs {
    static Floats<V> scaled(const int32_t* sums, float quantum, const TileAffine& affine, int64_t c) {
        return affine.totals.numbers<V>(sums, c, quantum) * loaded<Floats<V>>(affine.scale + c) +
               loaded<Floats<V>>(affine.bias + c);
    }

    // Write one row of sums as outputs.
    static void scale(const int32_t* sums, float quantum, const TileAffine& affine, int64_t count, float* to) {
        for (int64_t c = 0; c < count; c += V::outputs) {
            store_part(scaled(sums, quantum, affine, c), count - c, to + c);
        }
    }

    static void put(const ByteRows& rows, const int32_t* sums, const TileAffine& affine, int64_t count, float* y,
                    int64_t row_stride) {
        for (int64_t r = 0; r < rows.count; ++r, sums += TILE, y += row_stride) {
            scale(sums, rows.quantum[r * rows.apart], affine, count, y);
        }
    }

    // The same if the rows of an output are adjacent: sixteen of them, which fill a cache line, then those of the next
    // output.
    static void put_planes(const ByteRows& rows, const int32_t* sums, const TileAffine& affine, int64_t count, float* y,
                           int64_t output_stride) {
        alignas(64) float values[16 * TILE] = {};
        for (int64_t r = 0; r < rows.count; r += 16, y += 16) {
            const int64_t here = least(16, rows.count - r);
            for (int64_t i = 0; i < here; ++i) {
                scale(sums + (r + i) * TILE, rows.quantum[(r + i) * rows.apart], affine, TILE, values + i * TILE);
            }
            for (int64_t c = 0; c < count; c += 4) {
                for (int64_t i = 0; i < here; i += 4) {
                    FourFloats v[4];
                    for (int64_t k = 0; k < 4; ++k) v[k] = loaded<FourFloats>(values + (i + k) * TILE + c);
                    transpose(v);
                    put_four(v, least(4, here - i), least(4, count - c), y + c * output_stride + i, output_stride);
                }
            }
        }
    }

    static void put_four(const FourFloats (&v)[4], int64_t pixels, int64_t outputs, float* y, int64_t output_stride) {
        if (pixels == 4 && outputs == 4) {
            for (int64_t i = 0; i < 4; ++i) std::memcpy(y + i * output_stride, &v[i], sizeof v[i]);
            return;
        }
        for (int64_t i = 0; i < outputs; ++i) {
            for (int64_t k = 0; k < pixels; ++k) y[i * output_stride + k] = v[i][k];
        }
    }
};

// The numbers that the sums of rows represent.
template <class V>
struct TileNumbers {
    const int32_t* sums;
    const TileTotals& totals;
    const float* quantum;
    int64_t apart;

    Floats<V> of(int64_t row, int64_t c) const {
        return totals.numbers<V>(sums + row * TILE, c, quantum[row * apart]);
    }
};

// Finish the sums of one tile.
template <class V>
void finish_sums(const ByteRows& rows, const ByteOutputs& o, const int32_t* sums) {
    const int64_t at = o.first * BLOCK, count = least(o.last * BLOCK, o.n) - at;
    const TileTotals totals(o, o.first, o.last - o.first, rows.step_count);
    put_finished<V, 2>(TileNumbers<V>{sums, totals, rows.quantum, rows.apart}, rows.count, at, count, *o.then);
}

template <class V>
void pool_sums(const int32_t* const* rows, int64_t count, const Window& w, const int32_t* flips, int32_t* to) {
    for (int64_t ox = 0; ox < w.out_size[1]; ++ox, to += TILE) {
        const int64_t left = ox * w.stride[1] - w.padding[1];
        const int64_t first = most(left, 0), last = least(left + w.kernel[1], w.size[1]);
        for (int64_t c = 0; c < TILE; c += V::outputs) {
            const Ints<V> flip = loaded<Ints<V>>(flips + c);
            Ints<V> largest = loaded<Ints<V>>(rows[0] + first * TILE + c) ^ flip;
            for (int64_t i = 0; i < count; ++i) {
                for (int64_t x = first; x < last; ++x) {
                    const Ints<V> sums = loaded<Ints<V>>(rows[i] + x * TILE + c) ^ flip;
                    largest = sums > largest ? sums : largest;
                }
            }
            largest ^= flip;
            std::memcpy(to + c, &largest, sizeof largest);
        }
    }
}

// Multiply all rows with up to four blocks of the weight.
template <class V>
void multiply_blocks(const ByteRows& rows, const ByteOutputs& o, int32_t* sums) {
    const int64_t blocks = o.last - o.first, at = o.first * BLOCK, count = least(blocks * BLOCK, o.n - at);
    V::add(rows, o.panels + o.first * block_bytes(rows.step_count), blocks, sums);
    if (o.then != nullptr) return finish_sums<V>(rows, o, sums);
    const TileAffine affine(o, o.first, blocks, rows.step_count);
    float* const y = o.y + at * o.output_stride;
    if (o.output_stride == 1) TileOutputs<V>::put(rows, sums, affine, count, y, o.row_stride);
    else TileOutputs<V>::put_planes(rows, sums, affine, count, y, o.output_stride);
}

// V::add sums all rows with a few blocks of the weight. Sums are TILE apart.
template <class V>
void multiply_bytes(const ByteRows& rows, const ByteOutputs& o) {
    constexpr int64_t ROWS = 48;  // whose sums stay in the first cache
    auto* const sums = static_cast<int32_t*>(scratch<ByteRows>(ROWS * TILE * static_cast<int64_t>(sizeof(int32_t))));
    for (int64_t block = o.first; block < o.last; block += BLOCKS) {
        for (int64_t row = 0; row < rows.count; row += ROWS) {
            ByteRows here = rows;
            here.x += row * rows.stride, here.quantum += row * rows.apart, here.count = least(ROWS, rows.count - row);
            ByteOutputs tile = o;
            tile.first = block, tile.last = least(block + BLOCKS, o.last);
            Outputs then;
            if (o.then != nullptr) then = *o.then, then.first += row, tile.then = &then;
            else tile.y += row * o.row_stride;
            multiply_blocks<V>(here, tile, sums);
        }
    }
}

}  // namespace
}  // namespace proxconnect
