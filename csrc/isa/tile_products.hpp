// The product of tiles that all kernels of AMX share. Each kernel decides how entries are packed into tiles, and what
// becomes of sums.
#pragma once

#include "isa/tiles.hpp"
#include "isa/unrolled.hpp"

namespace proxconnect {
namespace {

constexpr int64_t TILE_ROWS = 16, TILE_ROW_BYTES = 64, TILE_BYTES = TILE_ROWS * TILE_ROW_BYTES;

// Tiles of a factor: the address of the first, and the bytes from row to row and from tile to tile.
struct FactorTiles {
    const void* first;
    int64_t stride = TILE_ROW_BYTES, apart = 0;

    const void* at(int tile) const { return static_cast<const char*>(first) + tile * apart; }
};

// Tiles of sums: rows `stride` bytes apart, tiles `down` and `right` bytes apart.
struct SumTiles {
    void* first;
    int64_t stride, down, right;

    void* at(int row, int column) const { return static_cast<char*>(first) + row * down + column * right; }
};

// Return tiles of sums in rows of `pitch` sums.
inline SumTiles sum_tiles(int32_t* first, int64_t pitch) {
    const int64_t stride = pitch * static_cast<int64_t>(sizeof(int32_t));
    return {first, stride, TILE_ROWS * stride, TILE_ROW_BYTES};
}

struct Nothing {
    template <class... Any>
    void operator()(Any...) const {}
};

// Sums of ROWS by COLUMNS tiles: 2 by 2, 4 by 1, 1 by 4, or fewer.
template <Factors FACTORS, int ROWS, int COLUMNS>
struct TileSums {
    static constexpr int COUNT = ROWS * COLUMNS;
    static_assert((ROWS <= 2 && COLUMNS <= 2) || (COLUMNS == 1 && ROWS <= 4) || (ROWS == 1 && COLUMNS <= 4));

    ALWAYS_INLINE static void zero() {
        unrolled<COUNT>([](auto sum) ALWAYS_INLINE { zero_tile<decltype(sum)::value>(); });
    }

    ALWAYS_INLINE static void load(const SumTiles& from) {
        unrolled<COUNT>([&](auto sum) ALWAYS_INLINE {
            load_tile<decltype(sum)::value>(from.at(sum / COLUMNS, sum % COLUMNS), from.stride);
        });
    }

    ALWAYS_INLINE static void store(const SumTiles& to) {
        unrolled<COUNT>([&](auto sum) ALWAYS_INLINE { store(to, sum); });
    }

    template <class Sum>
    ALWAYS_INLINE static void store(const SumTiles& to, Sum sum) {
        store_tile<Sum::value>(to.at(sum / COLUMNS, sum % COLUMNS), to.stride);
    }

    // Add the products of all rows with all columns, and call before(sum) before each. Do not load a side again that is
    // still in its one or two tiles.
    template <bool LOADS_ROWS = true, bool LOADS_COLUMNS = true, class Before = Nothing>
    ALWAYS_INLINE static void add(const FactorTiles& rows, const FactorTiles& columns, const Before& before = {}) {
        static_assert((LOADS_ROWS || ROWS <= 2) && (LOADS_COLUMNS || COLUMNS <= 2));
        unrolled<COUNT>([&](auto sum) ALWAYS_INLINE {
            constexpr int SUM = decltype(sum)::value, ROW = SUM / COLUMNS, COLUMN = SUM % COLUMNS;
            constexpr int ROW_TILE = ROW_TILES[ROW % 2], COLUMN_TILE = COLUMN_TILES[COLUMN % 2];
            if constexpr (LOADS_ROWS && COLUMN == 0) load_tile<ROW_TILE>(rows.at(ROW), rows.stride);
            if constexpr (LOADS_COLUMNS && ROW == 0) load_tile<COLUMN_TILE>(columns.at(COLUMN), columns.stride);
            before(sum);
            multiply_tiles<FACTORS, SUM, ROW_TILE, COLUMN_TILE>();
        });
    }

    // Add the products of steps [first, last). Packing has rows(j) and columns(j), the FactorTiles of step j.
    template <class Packing>
    ALWAYS_INLINE static void add_steps(const Packing& packing, int64_t first, int64_t last) {
        for (int64_t j = first; j < last; ++j) add(packing.rows(j), packing.columns(j));
    }
};

// Call multiply(row, sums) for every `part` rows. Call put(row, sums) for each only after the next products, because
// sums take a while to arrive in memory. SIZE is the number of sums.
template <int64_t SIZE, class Multiply, class Put>
void multiply_then_put(int64_t rows, int64_t part, const Multiply& multiply, const Put& put) {
    alignas(64) int32_t sums[2][SIZE];
    int64_t row = 0;
    for (int which = 0; row < rows; row += part, which ^= 1) {
        multiply(row, sums[which]);
        if (row > 0) put(row - part, sums[which ^ 1]);
    }
    put(row - part, sums[(row / part - 1) % 2]);
}

}  // namespace
}  // namespace proxconnect
