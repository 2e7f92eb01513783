// Products of rows of bytes by instructions that multiply four pairs of bytes for each output of a vector.
//
// V has: `Vector`, of `vector_outputs` sums or four bytes for each, load and store; `first_sums`, which are 0, or 128
// times the sums of the weight if its entries are q instead of q + 128; `entries`, `fours` groups of four entries of a
// row, and `add_products` of one of them; `rows`, whose sums of one tile fit the registers.
#pragma once

#include "int8/kernels.hpp"
#include "isa/unrolled.hpp"
#include "isa/vectors.hpp"

namespace proxconnect {
namespace {

// The vectors of instructions that add to each of N sums the products of four bytes.
template <int N>
struct QuadVectors {
    using Vector = typename Vectors<N>::Ints;
    static constexpr int64_t vector_outputs = N;
    static constexpr int fours = 1, rows = 6;

    static Vector first_sums(const void*) { return Vector{}; }
    static Vector load(const void* from) { return loaded<Vector>(from); }
    static void store(void* to, const Vector& v) { std::memcpy(to, &v, sizeof v); }
    static Vector entries(const uint8_t* from) { return Vector{} + loaded<int32_t>(from); }
};

// Fetch what one row meets later, `at` bytes from the beginning of COUNT blocks, in these or in the next ones, to the
// second cache. Blocks are too short for a processor to see that they are read in order.
template <int COUNT>
ALWAYS_INLINE inline void fetch_ahead(const int8_t* panels, int64_t at, int64_t apart) {
    constexpr int64_t AHEAD = 2048;
    const int64_t later = at + least(AHEAD, apart);
    const int8_t* const from = panels + (later < apart ? later : later + (COUNT - 1) * apart);
    unrolled<COUNT>([&](auto block) ALWAYS_INLINE { __builtin_prefetch(from + block * apart, 0, 2); });
}

// Sum ROWS rows with COUNT blocks. Sums are TILE apart.
template <class V, int ROWS, int COUNT>
void add_tile(const ByteRows& rows, int64_t row, const int8_t* panels, int32_t* to) {
    constexpr int64_t SIZE = V::vector_outputs, PARTS = BLOCK / SIZE, FOURS = 4 * BLOCK;
    constexpr int VECTORS = COUNT * PARTS;
    const int64_t apart = block_bytes(rows.step_count);
    const int8_t* const begin = panels;
    typename V::Vector sums[ROWS][VECTORS];
    unrolled<VECTORS>([&](auto v) ALWAYS_INLINE {
        const int8_t* const totals = panels + (v / PARTS + 1) * apart - TOTALS_BYTES;
        sums[0][v] = V::first_sums(totals + v % PARTS * 4 * SIZE);
        unrolled<ROWS>([&](auto r) ALWAYS_INLINE { sums[r][v] = sums[0][v]; });
    });
    for (int64_t j = 0; j < rows.step_count; ++j, panels += STEP_BYTES) {
        const uint8_t* x = rows.x + row * rows.stride + rows.steps[j].at;
        const int8_t* weights = panels;
        for (int64_t k = 0; k < rows.steps[j].fours; k += V::fours, x += 4 * V::fours, weights += V::fours * FOURS) {
            unrolled<V::fours>([&](auto four) ALWAYS_INLINE {
                if constexpr (ROWS == 1) fetch_ahead<COUNT>(begin, weights + four * FOURS - begin, apart);
                typename V::Vector weight[VECTORS];
                unrolled<VECTORS>([&](auto v) ALWAYS_INLINE {
                    weight[v] = V::load(weights + four * FOURS + v / PARTS * apart + v % PARTS * 4 * SIZE);
                });
                unrolled<ROWS>([&](auto r) ALWAYS_INLINE {
                    const auto entries = V::entries(x + r * rows.stride);
                    unrolled<VECTORS>([&](auto v) ALWAYS_INLINE {
                        sums[r][v] = V::template add_products<four>(sums[r][v], entries, weight[v]);
                    });
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
    const int64_t tiles = ceil_div(rows.count, V::rows);
    for (int64_t tile = 0, row = 0, end; tile < tiles; ++tile, row = end) {
        end = rows.count * (tile + 1) / tiles;
        with_constant<V::rows>(end - row, [&](auto count) {
            add_tile<V, count, COUNT>(rows, row, panels, sums + row * TILE);
        });
    }
}

// The same for any number of blocks, one after the other.
template <class V>
void add_by_block(const ByteRows& rows, const int8_t* panels, int64_t blocks, int32_t* sums) {
    for (int64_t i = 0; i < blocks; ++i, panels += block_bytes(rows.step_count), sums += BLOCK) {
        add_rows<V, 1>(rows, panels, sums);
    }
}

}  // namespace
}  // namespace proxconnect
