// AMX, which multiplies 16 rows by 16 columns of 64 bytes in one instruction. It is used on Linux alone, which lends
// the tiles to processes that ask, or emulated.
#pragma once

#include <cstdint>

namespace proxconnect {

// Whether this machine has AMX and the system lets us use it.
bool has_amx();

// Whether its tiles multiply bfloat16 too.
bool has_bfloat_tiles();

// How large the eight tiles are: 16 rows of 64 bytes, unless changed.
struct alignas(64) TileConfiguration {
    uint8_t palette = 1, first_row = 0, reserved[14] = {};
    uint16_t bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
    uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};

}  // namespace proxconnect

// Files that use tiles are empty without this.
#if defined(PROXCONNECT_EMULATED_TILES) && defined(__AVX512F__)
#include "isa/emulated_tiles.hpp"
#define PROXCONNECT_HAS_TILES 1
#elif defined(__linux__) && defined(__AMX_INT8__) && defined(__AMX_BF16__)
#define PROXCONNECT_HAS_TILES 1
#endif
