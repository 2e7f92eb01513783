// Products of two factors in AMX's tiles, each of three bfloat16: the six largest of nine.
#pragma once

#include "attention/bfloat_parts.hpp"

namespace proxconnect {
namespace {

constexpr int64_t TILE_FLOATS = 256;

// Sum products of tiles of rows with tiles of columns from `column` on. One side stays from one product to the next.
// After each, call `beside`, whose vector instructions run while the tiles multiply.
template <int ROWS, int COLUMNS, class Work>
void multiply(const Parts& rows, const Parts& columns, int64_t column, const SumTiles& sums, Work& beside) {
    using Sums = TileSums<Factors::BFLOATS, ROWS, COLUMNS>;
    Sums::zero();
    for (int64_t step = 0; step < rows.steps; ++step) {
        const auto left = [&](int64_t part) { return rows.tiles_at(part, 0, step); };
        const auto right = [&](int64_t part) { return columns.tiles_at(part, column, step); };
        constexpr bool NEW = true, SAME = false;
        Sums::template add<NEW, NEW>(left(0), right(2)), beside();
        Sums::template add<SAME, NEW>(left(0), right(1)), beside();
        Sums::template add<NEW, SAME>(left(1), right(1)), beside();
        Sums::template add<SAME, NEW>(left(1), right(0)), beside();
        Sums::template add<NEW, SAME>(left(2), right(0)), beside();
        Sums::template add<NEW, SAME>(left(0), right(0)), beside();
    }
    Sums::store(sums);
}

// Return the number of calls of `beside` while one or two tiles of rows meet all columns.
int64_t calls_beside(const Parts& columns) { return ceil_div(columns.tiles, 2) * columns.steps * 6; }

// Multiply one or two tiles of rows by all columns. Tiles of floats are `across` in a row.
template <class Work>
void multiply_all(int64_t row_tiles, const Parts& rows, const Parts& columns, float* sums, int64_t across,
                  Work& beside) {
    for (int64_t column = 0; column < columns.tiles; column += 2) {
        const SumTiles place = {sums + column * TILE_FLOATS, TILE_ROW_BYTES, across * TILE_BYTES, TILE_BYTES};
        const bool has_two = column + 1 < columns.tiles;
        const auto one_row = has_two ? multiply<1, 2, Work> : multiply<1, 1, Work>;
        const auto two_rows = has_two ? multiply<2, 2, Work> : multiply<2, 1, Work>;
        (row_tiles > 1 ? two_rows : one_row)(rows, columns, column, place, beside);
    }
}

}  // namespace
}  // namespace proxconnect
