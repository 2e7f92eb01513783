// AMX multiplies 16 rows of bytes at a time. AVX-512 takes a remainder of less than half a tile.
#include "int8/byte_tiles.hpp"
#include "isa/amx.hpp"

namespace proxconnect {
namespace {

// Sum `count` rows, a multiple of 16, with up to four blocks of the weight.
void add_rows(const ByteRows& rows, int64_t count, const int8_t* panels, int64_t blocks, int32_t* sums) {
    constexpr auto UNSIGNED = Factors::UNSIGNED_BYTES;
    const ConfiguredTiles configured(most_fours(rows));
    for (int64_t r = 0; r < count; r += BLOCK, sums += BLOCK * TILE) {
        if (blocks == BLOCKS) {
            multiply_tile<UNSIGNED, BLOCKS>(rows, r, panels, sums);
            continue;
        }
        for (int64_t i = 0; i < blocks; ++i) {
            multiply_tile<UNSIGNED, 1>(rows, r, panels + i * block_bytes(rows.step_count), sums + i * BLOCK);
        }
    }
}

}  // namespace

void add_by_tiles(const ByteRows& rows, const int8_t* panels, int64_t blocks, int32_t* sums) {
    const int64_t whole = (rows.count + BLOCK / 2) / BLOCK * BLOCK;
    if (whole > 0) add_rows(rows, whole, panels, blocks, sums);
    if (whole >= rows.count) return;
    ByteRows others = rows;
    others.x += whole * rows.stride, others.count -= whole;
    add_by_avx512(others, panels, blocks, sums + whole * TILE);
}

}  // namespace proxconnect
