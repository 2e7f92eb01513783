// AMX multiplies 16 rows of bytes at a time. AVX-512 takes a remainder of less than half a tile.
#include "int8/byte_tiles.hpp"
#include "int8/outputs.hpp"
#include "isa/amx.hpp"
#include "isa/avx512.hpp"

namespace proxconnect {
namespace {

// Sum `count` rows, a multiple of 16, with up to four blocks of the weight.
void multiply_rows(const ByteRows& rows, int64_t count, const int8_t* panels, int64_t blocks, int32_t* sums) {
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

struct Tiles : Avx512 {
    static void add(const ByteRows& rows, const int8_t* panels, int64_t blocks, int32_t* sums) {
        const int64_t whole = (rows.count + BLOCK / 2) / BLOCK * BLOCK;
        if (whole > 0) multiply_rows(rows, whole, panels, blocks, sums);
        if (whole >= rows.count) return;
        ByteRows others = rows;
        others.x += whole * rows.stride, others.count -= whole;
        avx512_int8.add(others, panels, blocks, sums + whole * TILE);
    }
};

}  // namespace

Int8Kernels with_tiles(Int8Kernels kernels) {
    kernels.multiply = multiply_bytes<Tiles>, kernels.add = Tiles::add, kernels.hold = hold_tiles;
    return kernels;
}

}  // namespace proxconnect
