// AMX's tiles in software. With PROXCONNECT_EMULATED_TILES, isa/tiles.hpp uses these instead of instructions. AMX's
// kernels then run on every machine with AVX-512, and AddressSanitizer sees each byte that a tile reads or writes.
//
// The program ends with a message if the processor would refuse a configuration, a tile that is not configured, or a
// product of tiles whose sizes do not fit. (Intel's manual, volume 2: LDTILECFG, TILELOADD, TDPBSSD, TDPBF16PS.)
#pragma once

#include <immintrin.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace proxconnect {
namespace emulated {

constexpr int TILE_COUNT = 8, MOST_ROWS = 16, MOST_BYTES = 64;

struct Tile {
    int rows = 0, bytes = 0;  // of a row; both are 0 for a tile that is not configured
    uint8_t at[MOST_ROWS][MOST_BYTES] = {};  // 0 beyond its rows and bytes
};

inline void require(bool holds, const char* fault) {
    if (holds) return;
    std::fprintf(stderr, "emulated tiles: %s\n", fault);
    std::abort();
}

// Return the tiles of this thread, which all files share.
inline Tile* tiles() {
    static thread_local Tile of_thread[TILE_COUNT];
    return of_thread;
}

inline Tile& tile(int number) {
    Tile& found = tiles()[number];
    require(found.rows > 0, "a tile is used that is not configured");
    return found;
}

inline void require_product(const Tile& sums, const Tile& left, const Tile& right) {
    require(&sums != &left && &sums != &right && &left != &right, "a product takes one tile twice");
    require(sums.bytes % 4 == 0 && left.bytes % 4 == 0 && right.bytes % 4 == 0, "a row is no whole words");
    const bool fit = sums.rows == left.rows && sums.bytes == right.bytes && left.bytes == 4 * right.rows;
    require(fit, "the sizes of a product's tiles do not fit");
}

using Words = uint32_t __attribute__((vector_size(MOST_BYTES)));
using Shorts = int16_t __attribute__((vector_size(MOST_BYTES)));

// Add four products of bytes to each word of the sums. Bytes of `columns` are signed.
template <class Left>
inline void add_byte_products(int to, int rows, int columns) {
    Tile& sums = tile(to);
    const Tile &left = tile(rows), &right = tile(columns);
    require_product(sums, left, right);
    for (int r = 0; r < sums.rows; ++r) {
        Words total, fours;
        std::memcpy(&total, sums.at[r], sizeof total);
        for (int k = 0; k < right.rows; ++k) {
            std::memcpy(&fours, right.at[k], sizeof fours);
            for (int i = 0; i < 2; ++i) {  // bytes 0 and 2, then 1 and 3
                const uint8_t* const pair = left.at[r] + 4 * k + i;
                const int32_t low = static_cast<Left>(pair[0]), high = static_cast<Left>(pair[2]);
                const Words factors = Words{} + (static_cast<uint32_t>(high) << 16 | (low & 0xffff));
                const Shorts of_places = (Shorts)(fours << (8 - 8 * i)) >> 8;
                total += (Words)_mm512_madd_epi16((__m512i)factors, (__m512i)of_places);
            }
        }
        std::memcpy(sums.at[r], &total, sizeof total);
    }
}

// Replace denormal numbers by 0: products of bfloat16 neither take nor make them.
inline __m512 without_denormals(Words bits) {
    const Words is_normal = (Words)((bits & 0x7f800000u) != 0);
    return (__m512)(bits & (is_normal | 0x80000000u));
}

// Return the floats whose upper halves are the lower, or the upper, halves of words.
inline __m512 bfloats(Words pairs, bool are_upper) {
    return without_denormals(are_upper ? pairs & 0xffff0000u : pairs << 16);
}

// Add two products of bfloat16 to each word of the sums. Even and odd entries are summed separately, then together.
inline void add_bfloat_products(int to, int rows, int columns) {
    Tile& sums = tile(to);
    const Tile &left = tile(rows), &right = tile(columns);
    require_product(sums, left, right);
    for (int r = 0; r < sums.rows; ++r) {
        __m512 total, parts[2] = {};
        std::memcpy(&total, sums.at[r], sizeof total);
        for (int k = 0; k < right.rows; ++k) {
            uint32_t pair;
            Words pairs;
            std::memcpy(&pair, left.at[r] + 4 * k, sizeof pair);
            std::memcpy(&pairs, right.at[k], sizeof pairs);
            for (int i = 0; i < 2; ++i) {
                const __m512 factors = bfloats(Words{} + pair, i == 1);
                parts[i] = without_denormals((Words)_mm512_fmadd_ps(factors, bfloats(pairs, i == 1), parts[i]));
            }
        }
        total = without_denormals((Words)(total + without_denormals((Words)(parts[0] + parts[1]))));
        std::memcpy(sums.at[r], &total, static_cast<size_t>(sums.bytes));
    }
}

}  // namespace emulated

namespace {

inline void release_tiles() {
    for (int i = 0; i < emulated::TILE_COUNT; ++i) emulated::tiles()[i] = emulated::Tile();
}

inline void configure_tiles(const TileConfiguration& c) {
    using namespace emulated;
    require(c.palette == 1, "the palette is not 1");
    require(c.first_row == 0, "the first row is not 0");
    for (const uint8_t byte : c.reserved) require(byte == 0, "a reserved byte is not 0");
    release_tiles();
    for (int i = 0; i < 16; ++i) {
        require(c.rows[i] <= MOST_ROWS && c.bytes[i] <= MOST_BYTES, "a tile is too large");
        require((c.rows[i] == 0) == (c.bytes[i] == 0), "a tile has rows without bytes, or bytes without rows");
        require(i < TILE_COUNT || c.rows[i] == 0, "there are eight tiles");
        if (i < TILE_COUNT) tiles()[i].rows = c.rows[i], tiles()[i].bytes = c.bytes[i];
    }
}

template <int TILE>
inline void zero_tile() {
    std::memset(emulated::tile(TILE).at, 0, sizeof emulated::Tile::at);
}

template <int TILE>
inline void load_tile(const void* from, int64_t stride) {
    zero_tile<TILE>();
    emulated::Tile& to = emulated::tile(TILE);
    for (int r = 0; r < to.rows; ++r) {
        std::memcpy(to.at[r], static_cast<const uint8_t*>(from) + r * stride, static_cast<size_t>(to.bytes));
    }
}

template <int TILE>
inline void store_tile(void* to, int64_t stride) {
    const emulated::Tile& from = emulated::tile(TILE);
    for (int r = 0; r < from.rows; ++r) {
        std::memcpy(static_cast<uint8_t*>(to) + r * stride, from.at[r], static_cast<size_t>(from.bytes));
    }
}

template <Factors FACTORS, int SUMS, int ROWS, int COLUMNS>
inline void multiply_tiles() {
    if constexpr (FACTORS == Factors::SIGNED_BYTES) emulated::add_byte_products<int8_t>(SUMS, ROWS, COLUMNS);
    else if constexpr (FACTORS == Factors::UNSIGNED_BYTES) emulated::add_byte_products<uint8_t>(SUMS, ROWS, COLUMNS);
    else emulated::add_bfloat_products(SUMS, ROWS, COLUMNS);
}

}  // namespace
}  // namespace proxconnect
