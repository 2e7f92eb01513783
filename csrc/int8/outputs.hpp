// The sums of a tile become floats, and take epilogue steps.
//
// V has: `outputs`, the floats of a vector, and `fma`, which rounds once.
#pragma once

#include "epilogue/finished_numbers.hpp"
#include "int8/kernels.hpp"

namespace proxconnect {
namespace {

// The numbers that the sums of rows represent.
template <class V>
struct TileNumbers {
    const int32_t* sums;
    const float* quantum;
    int64_t apart;
    alignas(64) int32_t totals[TILE] = {};  // 128 times the weight sum of each output, 0 beyond the last

    TileNumbers(const ByteRows& rows, const ByteOutputs& o, const int32_t* of_rows)
        : sums(of_rows), quantum(rows.quantum), apart(rows.apart) {
        for (int64_t block = o.first; block < o.last; ++block) {
            const int8_t* const behind = o.panels + (block + 1) * block_bytes(rows.step_count) - TOTALS_BYTES;
            std::memcpy(totals + (block - o.first) * BLOCK, behind, TOTALS_BYTES);
        }
    }

    Floats<V> of(int64_t row, int64_t c) const {
        const Ints<V> exact = loaded<Ints<V>>(sums + row * TILE + c) - loaded<Ints<V>>(totals + c);
        return __builtin_convertvector(exact, Floats<V>) * quantum[row * apart];
    }
};

// Finish the sums of one tile.
template <class V>
void finish_sums(const ByteRows& rows, const ByteOutputs& o, const int32_t* sums) {
    const int64_t at = o.first * BLOCK, count = least(o.last * BLOCK, o.n) - at;
    put_finished<V, 2>(TileNumbers<V>(rows, o, sums), rows.count, o.channel + at, count, o.then);
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

}  // namespace
}  // namespace proxconnect
