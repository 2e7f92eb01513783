// Products of tiles of bytes: 16 rows with blocks of an 8-bit weight, or with the places of a weight in fixed point.
#pragma once

#include "int8/kernels.hpp"
#include "isa/tile_products.hpp"

namespace proxconnect {
namespace {

static_assert(BLOCK == TILE_ROWS && STEP == TILE_ROW_BYTES);

struct ByteSteps {
    const ByteRows& of;
    const uint8_t* x;
    const int8_t* panels;

    FactorTiles rows(int64_t j) const { return {x + of.steps[j].at, of.stride}; }
    FactorTiles columns(int64_t j) const { return {panels + j * STEP_BYTES, STEP, block_bytes(of.step_count)}; }
};

// Sum 16 rows from `row` on with COUNT blocks. Sums are TILE apart.
template <Factors FACTORS, int COUNT>
void multiply_tile(const ByteRows& rows, int64_t row, const int8_t* panels, int32_t* sums) {
    using Sums = TileSums<FACTORS, 1, COUNT>;
    Sums::zero();
    Sums::add_steps(ByteSteps{rows, rows.x + row * rows.stride, panels}, 0, rows.step_count);
    Sums::store(sum_tiles(sums, TILE));
}

// Return the number of groups of four entries in the longest step.
inline int64_t most_fours(const ByteRows& rows) {
    int64_t fours = 1;
    for (int64_t j = 0; j < rows.step_count; ++j) fours = most(fours, rows.steps[j].fours);
    return fours;
}

}  // namespace
}  // namespace proxconnect
