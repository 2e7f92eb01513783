// Tiles of AMX: up to four of sixteen rows of bytes, which are multiplied by a weight of sixteen outputs. Sums are
// tiles 0 to 3, rows tiles 4 and 5, the weight tile 6.
#pragma once

#include "binary/byte_signs.hpp"
#include "isa/amx.hpp"

namespace proxconnect {
namespace {

constexpr int64_t TILE = 16, TILES_AT_ONCE = 4;
// In memory a row of sums is of so many outputs.
constexpr int64_t PITCH = 64, TILE_OF_SUMS = TILE * PITCH, ROW_OF_SUMS = PITCH * sizeof(int32_t);

// Where the entries of a row lie.
struct Spans {
    const Span* spans;
    int64_t count;
};

// One span of rows that are `stride` bytes apart. In the first of a product the sums of the product before, if there
// was one, are stored, when they have been ready for long, and begin anew.
template <int TILES, bool IS_FIRST>
inline void add_span(const int8_t* x, int64_t stride, const int8_t* weight, int32_t* before) {
    const int64_t below = TILE * stride;
    const bool has_before = IS_FIRST && before != nullptr;
    _tile_loadd(6, weight, SPAN);
    _tile_loadd(4, x, stride);
    if (has_before) _tile_stored(0, before, ROW_OF_SUMS);
    if (IS_FIRST) _tile_zero(0);
    _tile_dpbssd(0, 4, 6);
    if (TILES > 1) {
        _tile_loadd(5, x + below, stride);
        if (has_before) _tile_stored(1, before + TILE_OF_SUMS, ROW_OF_SUMS);
        if (IS_FIRST) _tile_zero(1);
        _tile_dpbssd(1, 5, 6);
    }
    if (TILES > 2) {
        _tile_loadd(4, x + 2 * below, stride);
        if (has_before) _tile_stored(2, before + 2 * TILE_OF_SUMS, ROW_OF_SUMS);
        if (IS_FIRST) _tile_zero(2);
        _tile_dpbssd(2, 4, 6);
    }
    if (TILES > 3) {
        _tile_loadd(5, x + 3 * below, stride);
        if (has_before) _tile_stored(3, before + 3 * TILE_OF_SUMS, ROW_OF_SUMS);
        if (IS_FIRST) _tile_zero(3);
        _tile_dpbssd(3, 5, 6);
    }
}

// `next(j)` says where the weight is of span j.
template <int TILES, class Next>
inline void multiply_tiles(const int8_t* x, int64_t stride, const Spans& of, const Next& next, int32_t* before) {
    add_span<TILES, true>(x + of.spans[0].at, stride, next(0), before);
    for (int64_t j = 1; j < of.count; ++j) add_span<TILES, false>(x + of.spans[j].at, stride, next(j), nullptr);
}

template <int TILES>
inline void store_tiles(int32_t* sums) {
    _tile_stored(0, sums, ROW_OF_SUMS);
    if (TILES > 1) _tile_stored(1, sums + TILE_OF_SUMS, ROW_OF_SUMS);
    if (TILES > 2) _tile_stored(2, sums + 2 * TILE_OF_SUMS, ROW_OF_SUMS);
    if (TILES > 3) _tile_stored(3, sums + 3 * TILE_OF_SUMS, ROW_OF_SUMS);
}

}  // namespace
}  // namespace proxconnect
