// AMX's eight tiles, each of up to 16 rows of 64 bytes. Sums are tiles 0 to 3, rows of the left factor tiles 4 and 5,
// columns of the right factor tiles 6 and 7.
#pragma once

#include <cstdint>

namespace proxconnect {

// The sizes of the tiles: 16 rows of 64 bytes by default.
struct alignas(64) TileConfiguration {
    uint8_t palette = 1, first_row = 0, reserved[14] = {};
    uint16_t bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
    uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};

constexpr int ROW_TILES[] = {4, 5}, COLUMN_TILES[] = {6, 7};

// The factors of a product: bytes, of which rows are signed or not and columns are signed, or bfloat16.
enum class Factors { SIGNED_BYTES, UNSIGNED_BYTES, BFLOATS };

}  // namespace proxconnect

#if defined(PROXCONNECT_EMULATED_TILES)

#include "tests/emulated_tiles.hpp"

#else

// The compiler's intrinsics take no tile from a template, and do not tell the compiler that loads read memory.
namespace proxconnect {
namespace {

struct __attribute__((may_alias)) TileMemory {
    char bytes[1 << 20];
};

inline void configure_tiles(const TileConfiguration& from) { asm volatile("ldtilecfg %0" ::"m"(from)); }
inline void release_tiles() { asm volatile("tilerelease"); }

template <int TILE>
inline void zero_tile() {
    asm volatile("tilezero %%tmm%c0" ::"i"(TILE));
}

template <int TILE>
inline void load_tile(const void* from, int64_t stride) {
    asm volatile("tileloadd (%0,%1,1), %%tmm%c2" ::"r"(from), "r"(stride), "i"(TILE),
                 "m"(*static_cast<const TileMemory*>(from)));
}

template <int TILE>
inline void store_tile(void* to, int64_t stride) {
    asm volatile("tilestored %%tmm%c2, (%0,%1,1)" ::"r"(to), "r"(stride), "i"(TILE) : "memory");
}

template <Factors FACTORS, int SUMS, int ROWS, int COLUMNS>
inline void multiply_tiles() {
    if constexpr (FACTORS == Factors::SIGNED_BYTES) {
        asm volatile("tdpbssd %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(SUMS), "i"(ROWS), "i"(COLUMNS));
    } else if constexpr (FACTORS == Factors::UNSIGNED_BYTES) {
        asm volatile("tdpbusd %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(SUMS), "i"(ROWS), "i"(COLUMNS));
    } else {
        asm volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(SUMS), "i"(ROWS), "i"(COLUMNS));
    }
}

}  // namespace
}  // namespace proxconnect

#endif
