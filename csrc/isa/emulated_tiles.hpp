// AMX's tiles in software. With PROXCONNECT_EMULATED_TILES they replace the instructions, so that the code that uses
// tiles runs on every machine with AVX-512, and AddressSanitizer sees each byte that a tile reads or writes.
//
// Whatever the processor would refuse ends the program with a message: an invalid configuration, a tile that is not
// configured, a product of tiles whose sizes do not fit. (Intel's manual, volume 2: LDTILECFG, TILELOADD, TDPBSSD,
// TDPBF16PS.)
#pragma once

#include <immintrin.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace proxconnect {
namespace emulated {

constexpr int TILES = 8, MOST_ROWS = 16, MOST_BYTES = 64;

struct Tile {
    int rows = 0, bytes = 0;  // of a row; both are 0 for a tile that is not configured
    uint8_t at[MOST_ROWS][MOST_BYTES] = {};  // 0 beyond its rows and bytes
};

inline void require(bool holds, const char* fault) {
    if (holds) return;
    std::fprintf(stderr, "emulated tiles: %s\n", fault);
    std::abort();
}

// Those of a thread, as a core has them for each: all files share them.
inline Tile* tiles() {
    static thread_local Tile of_thread[TILES];
    return of_thread;
}

inline Tile& tile(int number) {
    Tile& found = tiles()[number];
    require(found.rows > 0, "a tile is used that is not configured");
    return found;
}

inline void release() {
    for (int i = 0; i < TILES; ++i) tiles()[i] = Tile();
}

inline void configure(const void* from) {
    TileConfiguration c;
    std::memcpy(&c, from, sizeof c);
    require(c.palette == 1, "the palette is not 1");
    require(c.first_row == 0, "the first row is not 0");
    for (const uint8_t byte : c.reserved) require(byte == 0, "a reserved byte is not 0");
    release();
    for (int i = 0; i < 16; ++i) {
        require(c.rows[i] <= MOST_ROWS && c.bytes[i] <= MOST_BYTES, "a tile is too large");
        require((c.rows[i] == 0) == (c.bytes[i] == 0), "a tile has rows without bytes, or bytes without rows");
        require(i < TILES || c.rows[i] == 0, "there are eight tiles");
        if (i < TILES) tiles()[i].rows = c.rows[i], tiles()[i].bytes = c.bytes[i];
    }
}

inline void zero(int number) {
    std::memset(tile(number).at, 0, sizeof Tile::at);
}

inline void load(int number, const void* from, int64_t stride) {
    zero(number);
    Tile& to = tile(number);
    for (int r = 0; r < to.rows; ++r) {
        std::memcpy(to.at[r], static_cast<const uint8_t*>(from) + r * stride, static_cast<size_t>(to.bytes));
    }
}

inline void store(int number, void* to, int64_t stride) {
    const Tile& from = tile(number);
    for (int r = 0; r < from.rows; ++r) {
        std::memcpy(static_cast<uint8_t*>(to) + r * stride, from.at[r], static_cast<size_t>(from.bytes));
    }
}

inline void require_product(const Tile& sums, const Tile& left, const Tile& right) {
    require(&sums != &left && &sums != &right && &left != &right, "a product takes one tile twice");
    require(sums.bytes % 4 == 0 && left.bytes % 4 == 0 && right.bytes % 4 == 0, "a row is no whole words");
    const bool fit = sums.rows == left.rows && sums.bytes == right.bytes && left.bytes == 4 * right.rows;
    require(fit, "the sizes of a product's tiles do not fit");
}

using Words = uint32_t __attribute__((vector_size(MOST_BYTES)));
using Shorts = int16_t __attribute__((vector_size(MOST_BYTES)));

// Four products of bytes for each word of the sums; those of `columns` have a sign.
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

// 0 in the place of denormal numbers, which products of bfloat16 neither take nor make. By bits of floats.
inline __m512 without_denormals(Words bits) {
    const Words is_normal = (Words)((bits & 0x7f800000u) != 0);
    return (__m512)(bits & (is_normal | 0x80000000u));
}

// The upper halves of floats that lie in the lower halves of words, or in the upper ones.
inline __m512 bfloats(Words pairs, bool are_upper) {
    return without_denormals(are_upper ? pairs & 0xffff0000u : pairs << 16);
}

// Two products of bfloat16 for each word of the sums: those of even and of odd entries are summed apart, then together.
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
}  // namespace proxconnect

#undef _tile_loadconfig
#undef _tile_release
#undef _tile_zero
#undef _tile_loadd
#undef _tile_stored
#undef _tile_dpbssd
#undef _tile_dpbusd
#undef _tile_dpbf16ps
#define _tile_loadconfig(from) proxconnect::emulated::configure(from)
#define _tile_release() proxconnect::emulated::release()
#define _tile_zero(tile) proxconnect::emulated::zero(tile)
#define _tile_loadd(tile, from, stride) proxconnect::emulated::load(tile, from, stride)
#define _tile_stored(tile, to, stride) proxconnect::emulated::store(tile, to, stride)
#define _tile_dpbssd(sums, rows, columns) proxconnect::emulated::add_byte_products<int8_t>(sums, rows, columns)
#define _tile_dpbusd(sums, rows, columns) proxconnect::emulated::add_byte_products<uint8_t>(sums, rows, columns)
#define _tile_dpbf16ps(sums, rows, columns) proxconnect::emulated::add_bfloat_products(sums, rows, columns)
