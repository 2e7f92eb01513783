// Floats as sums of three bfloat16 in AMX's tiles.
#pragma once

#include "isa/avx512.hpp"
#include "isa/tile_products.hpp"
#include "runtime/sizes.hpp"

namespace proxconnect {
namespace {

// Rows of floats, `stride` apart.
struct FloatRows {
    const float* x;
    int64_t stride, count, width;
};

// Return the largest of magnitudes, or NaN if one is.
inline float largest_of(__m512i magnitudes) {
    return _mm_cvtss_f32(_mm_castsi128_ps(_mm_cvtsi32_si128(static_cast<int>(_mm512_reduce_max_epu32(magnitudes)))));
}

// Tiles of one factor of a product, each of `steps` steps of 32 entries. A word of a tile has two entries that are 16
// apart, so that no vector is shuffled. The first part of a float has the upper 8 bits of its significand, the second
// the next 8, the third the rest.
struct Parts {
    static constexpr int64_t COUNT = 3;

    int64_t tiles, steps;
    uint8_t* memory = nullptr;

    Parts(int64_t tile_count, int64_t step_count) : tiles(tile_count), steps(step_count) {}

    int64_t bytes() const { return COUNT * tiles * steps * TILE_BYTES; }

    uint8_t* at(int64_t part, int64_t tile, int64_t step) const {
        return memory + ((tile * steps + step) * COUNT + part) * TILE_BYTES;
    }

    FactorTiles tiles_at(int64_t part, int64_t tile, int64_t step) const {
        return {at(part, tile, step), TILE_ROW_BYTES, COUNT * steps * TILE_BYTES};
    }

    // Put entries 0 to 15 and 16 to 31 of a row of STEPS steps. Several side by side, because each alone is a long
    // chain.
    template <int STEPS> void put(int64_t tile, int64_t step, int64_t row, __m512* x) const {
        const __m512i upper = _mm512_set1_epi32(static_cast<int32_t>(0xffff0000));
        constexpr int first_or_second_and_upper = 0xf8;
        for (int64_t part = 0; part < COUNT; ++part) {
            for (int i = 0; i < STEPS; ++i) {
                const __m512i a = _mm512_castps_si512(x[2 * i]), b = _mm512_castps_si512(x[2 * i + 1]);
                const __m512i words =
                    _mm512_ternarylogic_epi32(_mm512_srli_epi32(a, 16), b, upper, first_or_second_and_upper);
                _mm512_store_si512(at(part, tile, step + i) + row * 64, words);
            }
            for (int i = 0; i < 2 * STEPS && part + 1 < COUNT; ++i) {
                x[i] = _mm512_sub_ps(x[i], _mm512_castsi512_ps(_mm512_and_si512(_mm512_castps_si512(x[i]), upper)));
            }
        }
    }

    // Fill a tile with up to 16 rows of floats, and 0 after the last.
    void put_rows(int64_t tile, const FloatRows& rows, __m512i& largest) const {
        for (int64_t r = 0; r < 16; ++r) {
            const bool is_there = r < rows.count;
            for (int64_t step = 0; step < steps; ++step) {
                const float* const x = rows.x + (is_there ? r * rows.stride : 0) + step * 32;
                const bool has_both = step * 32 + 16 < rows.width;
                __m512 both[] = {read(x, is_there, largest), read(x + 16, is_there && has_both, largest)};
                put<1>(tile, step, r, both);
            }
        }
    }

    // Fill all tiles. Their columns are the columns of floats, with 0 below the last row.
    void put_columns(const FloatRows& rows, __m512i& largest) const {
        for (int64_t row = 0; row < steps * 32; ++row) {
            if (row % 32 >= 16) continue;
            const float* const x = rows.x + row * rows.stride;
            for (int64_t tile = 0; tile < tiles; ++tile) {
                const float* const other = x + 16 * rows.stride;
                __m512 both[] = {read(x + tile * 16, row < rows.count, largest),
                                 read(other + tile * 16, row + 16 < rows.count, largest)};
                put<1>(tile, row / 32, row % 32, both);
            }
        }
    }

    // Turn the rows of a tile into columns.
    void transpose(int64_t tile) const {
        for (int64_t part = 0; part < COUNT; ++part) {
            for (int64_t step = 0; step < steps; ++step) transpose_words(at(part, tile, step));
        }
    }

  private:
    static __m512 read(const float* x, bool is_there, __m512i& largest) {
        if (!is_there) return _mm512_setzero_ps();
        const __m512 floats = _mm512_loadu_ps(x);
        largest = _mm512_max_epu32(largest, magnitudes_of(_mm512_castps_si512(floats)));
        return floats;
    }

    static void transpose_words(uint8_t* at) {
        __m512i t[16], u[16];
        for (int i = 0; i < 16; i += 2) {
            const __m512i a = _mm512_load_si512(at + i * 64), b = _mm512_load_si512(at + i * 64 + 64);
            t[i] = _mm512_unpacklo_epi32(a, b), t[i + 1] = _mm512_unpackhi_epi32(a, b);
        }
        for (int g = 0; g < 16; g += 4) {  // u[g + j] has columns j, 4 + j, 8 + j, 12 + j of rows g to g + 3
            u[g] = _mm512_unpacklo_epi64(t[g], t[g + 2]), u[g + 1] = _mm512_unpackhi_epi64(t[g], t[g + 2]);
            u[g + 2] = _mm512_unpacklo_epi64(t[g + 1], t[g + 3]), u[g + 3] = _mm512_unpackhi_epi64(t[g + 1], t[g + 3]);
        }
        for (int j = 0; j < 4; ++j) {
            constexpr int even = 0x88, odd = 0xdd;
            const auto put_two = [&](int to, __m512i a, __m512i b) {
                _mm512_store_si512(at + to * 64, _mm512_shuffle_i32x4(a, b, even));
                _mm512_store_si512(at + (to + 8) * 64, _mm512_shuffle_i32x4(a, b, odd));
            };
            put_two(j, _mm512_shuffle_i32x4(u[j], u[4 + j], even), _mm512_shuffle_i32x4(u[8 + j], u[12 + j], even));
            put_two(4 + j, _mm512_shuffle_i32x4(u[j], u[4 + j], odd), _mm512_shuffle_i32x4(u[8 + j], u[12 + j], odd));
        }
    }
};

}  // namespace
}  // namespace proxconnect
