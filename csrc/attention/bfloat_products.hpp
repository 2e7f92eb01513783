// Products of two factors in tiles of AMX, each of three bfloat16: the six largest of nine.
#pragma once

#include "attention/bfloat_parts.hpp"

namespace proxconnect {
namespace {

constexpr int64_t ROWS_OF_TILE = 16, TILE_FLOATS = 256;

// Tiles 0 to 3 are sums, 4 and 5 the rows, 6 and 7 the columns.
template <int ROWS, int COLUMNS> void add_products() {
    _tile_dpbf16ps(0, 4, 6);
    if (COLUMNS > 1) _tile_dpbf16ps(1, 4, 7);
    if (ROWS > 1) _tile_dpbf16ps(2, 5, 6);
    if (ROWS > 1 && COLUMNS > 1) _tile_dpbf16ps(3, 5, 7);
}

template <int ROWS> void load_rows(const Parts& rows, int part, int64_t step) {
    _tile_loadd(4, rows.at(part, 0, step), 64);
    if (ROWS > 1) _tile_loadd(5, rows.at(part, 1, step), 64);
}

template <int COLUMNS> void load_columns(const Parts& columns, int part, int64_t tile, int64_t step) {
    _tile_loadd(6, columns.at(part, tile, step), 64);
    if (COLUMNS > 1) _tile_loadd(7, columns.at(part, tile + 1, step), 64);
}

// The sums of tiles of rows with tiles of columns, from `column` on, to tiles of floats, `across` in a row. From one
// product to the next one side stays. Between them `beside` is called, whose vectors run while tiles do.
template <int ROWS, int COLUMNS, class Work>
void multiply(const Parts& rows, const Parts& columns, int64_t column, float* sums, int64_t across, Work& beside) {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    const auto add = [&] {
        add_products<ROWS, COLUMNS>();
        beside();
    };
    for (int64_t step = 0; step < rows.steps; ++step) {
        load_rows<ROWS>(rows, 0, step);
        load_columns<COLUMNS>(columns, 2, column, step);
        add();
        load_columns<COLUMNS>(columns, 1, column, step);
        add();
        load_rows<ROWS>(rows, 1, step);
        add();
        load_columns<COLUMNS>(columns, 0, column, step);
        add();
        load_rows<ROWS>(rows, 2, step);
        add();
        load_rows<ROWS>(rows, 0, step);
        add();
    }
    float* const to = sums + column * TILE_FLOATS;
    _tile_stored(0, to, 64);
    if (COLUMNS > 1) _tile_stored(1, to + TILE_FLOATS, 64);
    if (ROWS > 1) _tile_stored(2, to + across * TILE_FLOATS, 64);
    if (ROWS > 1 && COLUMNS > 1) _tile_stored(3, to + (across + 1) * TILE_FLOATS, 64);
}

// The number of calls of `beside` that a tile or two of rows times all columns make.
int64_t calls_beside(const Parts& columns) { return ceil_div(columns.tiles, 2) * columns.steps * 6; }

template <int ROWS, class Work>
void multiply_all(const Parts& rows, const Parts& columns, float* sums, int64_t across, Work& beside) {
    int64_t column = 0;
    for (; column + 2 <= columns.tiles; column += 2) {
        multiply<ROWS, 2>(rows, columns, column, sums, across, beside);
    }
    if (column < columns.tiles) multiply<ROWS, 1>(rows, columns, column, sums, across, beside);
}

// Up to two tiles of rows times all columns.
template <class Work>
void multiply_all(int64_t row_tiles, const Parts& rows, const Parts& columns, float* sums, int64_t across,
                  Work& beside) {
    if (row_tiles > 1) return multiply_all<2>(rows, columns, sums, across, beside);
    multiply_all<1>(rows, columns, sums, across, beside);
}

}  // namespace
}  // namespace proxconnect
