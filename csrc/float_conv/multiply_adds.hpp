// Multiply patches of floats by a weight of floats, in tiles of patches and outputs whose sums stay in registers.
//
// V has: `outputs`, the floats of a vector; `fma`, which rounds once; `float_rows` and `float_blocks`, the patches and
// the blocks of outputs of a tile.
#pragma once

#include "epilogue/finished_numbers.hpp"
#include "float_conv/floats.hpp"
#include "isa/unrolled.hpp"

namespace proxconnect {
namespace {

// Sum the products of ROWS patches with COUNT blocks. Sums are TILE apart.
template <class V, int ROWS, int COUNT>
void add_tile(const FloatPatches& patches, int64_t row, const float* panels, float* sums) {
    constexpr int PARTS = BLOCK / V::outputs, VECTORS = COUNT * PARTS;
    Floats<V> total[ROWS][VECTORS];
    const uint8_t* x[ROWS];
    unrolled<ROWS>([&](auto r) ALWAYS_INLINE {
        x[r] = patches.x[row + r];
        unrolled<VECTORS>([&](auto v) ALWAYS_INLINE { total[r][v] = Floats<V>{}; });
    });
    const int64_t apart = patches.entries * BLOCK;
    for (const Stretch* step = patches.steps; step < patches.steps + patches.step_count; ++step) {
        const int64_t end = step->at + step->fours * FLOAT_BYTES;
        for (int64_t at = step->at; at < end; at += FLOAT_BYTES, panels += BLOCK) {
            Floats<V> weight[VECTORS];
            unrolled<VECTORS>([&](auto v) ALWAYS_INLINE {
                weight[v] = loaded<Floats<V>>(panels + v / PARTS * apart + v % PARTS * V::outputs);
            });
            unrolled<ROWS>([&](auto r) ALWAYS_INLINE {
                float entry;
                std::memcpy(&entry, x[r] + at, sizeof entry);
                const Floats<V> entries = entry - Floats<V>{};
                unrolled<VECTORS>([&](auto v) ALWAYS_INLINE {
                    total[r][v] = V::fma(entries, weight[v], total[r][v]);
                });
            });
        }
    }
    unrolled<ROWS>([&](auto r) ALWAYS_INLINE {
        unrolled<VECTORS>([&](auto v) ALWAYS_INLINE {
            std::memcpy(sums + r * TILE + v * V::outputs, &total[r][v], sizeof total[r][v]);
        });
    });
}

template <class V>
struct TileOfFloats {
    const float* sums;

    Floats<V> of(int64_t row, int64_t c) const { return loaded<Floats<V>>(sums + row * TILE + c); }
};

// Multiply by COUNT blocks. Their first output is `channel`.
template <class V, int COUNT>
void multiply_blocks(const FloatPatches& patches, const float* panels, int64_t channel, Outputs then) {
    alignas(64) float sums[V::float_rows * TILE];
    const int64_t width = least(COUNT * BLOCK, then.channels - channel);
    for (int64_t row = 0; row < patches.count; row += V::float_rows, then.first += V::float_rows) {
        const int64_t rows = least(V::float_rows, patches.count - row);
        with_constant<V::float_rows>(rows, [&](auto count) { add_tile<V, count, COUNT>(patches, row, panels, sums); });
        put_finished<V, 2, V::float_rows>(TileOfFloats<V>{sums}, rows, channel, width, then);
    }
}

// The weight has blocks of 16 outputs: all of them for the first entry, then for the next. Patch p becomes row
// then.first + p.
template <class V>
void multiply_floats(const FloatPatches& patches, const float* panels, const Outputs& then) {
    constexpr int64_t SIZE = V::float_blocks * BLOCK;
    for (int64_t channel = 0; channel < then.channels; channel += SIZE, panels += SIZE * patches.entries) {
        const int64_t blocks = least(V::float_blocks, ceil_div(then.channels - channel, BLOCK));
        with_constant<V::float_blocks>(blocks, [&](auto count) {
            multiply_blocks<V, count>(patches, panels, channel, then);
        });
    }
}

}  // namespace
}  // namespace proxconnect
