// Products of rows of bytes by vpdpbusd, which multiplies four pairs of bytes for each output of a vector.
//
// V has: `Vector`, of `vector_outputs` sums or four bytes for each, zero, load, store, broadcast (of four bytes) and
// add_products.
#pragma once

#include "int8/kernels.hpp"
#include "isa/unrolled.hpp"

namespace proxconnect {
namespace {

// Sum ROWS rows with COUNT blocks. Sums are TILE apart.
template <class V, int ROWS, int COUNT>
void add_tile(const ByteRows& rows, int64_t row, const int8_t* panels, int32_t* to) {
    constexpr int64_t SIZE = V::vector_outputs, PARTS = BLOCK / SIZE;
    constexpr int VECTORS = COUNT * PARTS;
    const int64_t apart = block_bytes(rows.step_count);
    typename V::Vector sums[ROWS][VECTORS];
    unrolled<ROWS>([&](auto r) ALWAYS_INLINE {
        unrolled<VECTORS>([&](auto v) ALWAYS_INLINE { sums[r][v] = V::zero(); });
    });
    for (int64_t j = 0; j < rows.step_count; ++j, panels += STEP_BYTES) {
        const uint8_t* x = rows.x + row * rows.stride + rows.steps[j].at;
        const int8_t* four_of_all = panels;
        for (int64_t k = 0; k < rows.steps[j].fours; ++k, x += 4, four_of_all += 4 * BLOCK) {
            typename V::Vector weight[VECTORS];
            unrolled<VECTORS>([&](auto v) ALWAYS_INLINE {
                weight[v] = V::load(four_of_all + v / PARTS * apart + v % PARTS * 4 * SIZE);
            });
            unrolled<ROWS>([&](auto r) ALWAYS_INLINE {
                int32_t four;
                std::memcpy(&four, x + r * rows.stride, sizeof four);
                const typename V::Vector entries = V::broadcast(four);
                unrolled<VECTORS>([&](auto v) ALWAYS_INLINE {
                    sums[r][v] = V::add_products(sums[r][v], entries, weight[v]);
                });
            });
        }
    }
    unrolled<ROWS>([&](auto r) ALWAYS_INLINE {
        unrolled<VECTORS>([&](auto v) ALWAYS_INLINE { V::store(to + r * TILE + v * SIZE, sums[r][v]); });
    });
}

// Divide the rows into tiles of almost equal heights: a tile of one row takes more than half as long as one of six.
template <class V, int COUNT>
void add_rows(const ByteRows& rows, const int8_t* panels, int32_t* sums) {
    constexpr int MOST_ROWS = 6;
    const int64_t tiles = ceil_div(rows.count, MOST_ROWS);
    for (int64_t tile = 0, row = 0, end; tile < tiles; ++tile, row = end) {
        end = rows.count * (tile + 1) / tiles;
        int32_t* const to = sums + row * TILE;
        switch (end - row) {
            case 1: add_tile<V, 1, COUNT>(rows, row, panels, to); break;
            case 2: add_tile<V, 2, COUNT>(rows, row, panels, to); break;
            case 3: add_tile<V, 3, COUNT>(rows, row, panels, to); break;
            case 4: add_tile<V, 4, COUNT>(rows, row, panels, to); break;
            case 5: add_tile<V, 5, COUNT>(rows, row, panels, to); break;
            default: add_tile<V, MOST_ROWS, COUNT>(rows, row, panels, to);
        }
    }
}

}  // namespace
}  // namespace proxconnect
