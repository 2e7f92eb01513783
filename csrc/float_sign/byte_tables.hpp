// The tables of rounded_tables.hpp with AVX2. The low bytes of sums fill a table of 16 bytes, and their high bytes
// another. vpshufb looks up both for 32 outputs.
#pragma once

#include <immintrin.h>

#include "float_sign/rounded_tables.hpp"

namespace proxconnect {
namespace {

// A word of 32 outputs, arranged by entries: byte i of vector k has entries 8k to 8k + 7 of output i.
struct Transposed {
    __m256i bytes[8];

    ALWAYS_INLINE void load(const uint64_t* const* panels, int64_t word) {
        const __m256i together = _mm256_setr_epi8(0, 8, 1, 9, 2, 10, 3, 11, 4, 12, 5, 13, 6, 14, 7, 15,  //
                                                  0, 8, 1, 9, 2, 10, 3, 11, 4, 12, 5, 13, 6, 14, 7, 15);
        __m256i eights[2][4];  // eight outputs of two entry bytes, of one panel in each half
        for (int p = 0; p < 2; ++p) {
            __m256i twos[4];
            for (int pair = 0; pair < 4; ++pair) {
                const auto rows = [&](int panel) {
                    return reinterpret_cast<const __m128i*>(panels[panel] + word * PANEL + 2 * pair);
                };
                const __m256i both = _mm256_inserti128_si256(_mm256_castsi128_si256(_mm_loadu_si128(rows(p))),
                                                             _mm_loadu_si128(rows(p + 2)), 1);
                twos[pair] = _mm256_shuffle_epi8(both, together);
            }
            const __m256i low[2] = {_mm256_unpacklo_epi16(twos[0], twos[1]), _mm256_unpacklo_epi16(twos[2], twos[3])};
            const __m256i high[2] = {_mm256_unpackhi_epi16(twos[0], twos[1]), _mm256_unpackhi_epi16(twos[2], twos[3])};
            eights[p][0] = _mm256_unpacklo_epi32(low[0], low[1]), eights[p][1] = _mm256_unpackhi_epi32(low[0], low[1]);
            eights[p][2] = _mm256_unpacklo_epi32(high[0], high[1]);
            eights[p][3] = _mm256_unpackhi_epi32(high[0], high[1]);
        }
        for (int i = 0; i < 4; ++i) {
            bytes[2 * i] = _mm256_unpacklo_epi64(eights[0][i], eights[1][i]);
            bytes[2 * i + 1] = _mm256_unpackhi_epi64(eights[0][i], eights[1][i]);
        }
    }
};

// Sums of 32 outputs: low bytes of 16 bits, of panels 0 and 2, then of panels 1 and 3, and high bytes of all.
struct ByteSums {
    __m256i low[2], high;

    // Add the sums of two fours. Their low bytes are added as they become 16 bits, and their high bytes as they are.
    ALWAYS_INLINE void look_up(const uint8_t* tables, __m256i first, __m256i second) {
        const auto at = [&](int i, __m256i numbers) ALWAYS_INLINE {
            const __m128i table = _mm_loadu_si128(reinterpret_cast<const __m128i*>(tables) + i);
            return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(table), numbers);
        };
        const __m256i lows[2] = {at(0, first), at(2, second)}, one = _mm256_set1_epi8(1);
        low[0] = _mm256_add_epi16(low[0], _mm256_maddubs_epi16(_mm256_unpacklo_epi8(lows[0], lows[1]), one));
        low[1] = _mm256_add_epi16(low[1], _mm256_maddubs_epi16(_mm256_unpackhi_epi8(lows[0], lows[1]), one));
        high = _mm256_add_epi8(high, _mm256_add_epi8(at(1, first), at(3, second)));
    }

    ALWAYS_INLINE void add_to(__m256* sums) const {
        const __m256i zero = _mm256_setzero_si256();
        const __m256i all[2] = {_mm256_add_epi16(low[0], _mm256_unpacklo_epi8(zero, high)),
                                _mm256_add_epi16(low[1], _mm256_unpackhi_epi8(zero, high))};
        for (int panel = 0; panel < 4; ++panel) {
            const __m256i of_two = all[panel % 2];
            const __m128i eight = panel < 2 ? _mm256_castsi256_si128(of_two) : _mm256_extracti128_si256(of_two, 1);
            sums[panel] += _mm256_cvtepi32_ps(_mm256_cvtepi16_epi32(eight));
        }
    }
};

struct ByteTables {
    using Weight = Transposed;
    using Sums = ByteSums;
    static constexpr int64_t BYTES = 32;  // low, then high bytes
    static constexpr int blocks = 1;

    // Write ±a±b±c±d for four bytes: sum i adds entry k if bit k of i is set, else subtracts it.
    static void put(const int8_t* x, uint8_t* to) {
        const __m256i a = _mm256_setr_epi16(-1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1);
        const __m256i b = _mm256_setr_epi16(-1, -1, 1, 1, -1, -1, 1, 1, -1, -1, 1, 1, -1, -1, 1, 1);
        const __m256i c = _mm256_setr_epi16(-1, -1, -1, -1, 1, 1, 1, 1, -1, -1, -1, -1, 1, 1, 1, 1);
        const __m256i d = _mm256_setr_epi16(-1, -1, -1, -1, -1, -1, -1, -1, 1, 1, 1, 1, 1, 1, 1, 1);
        const auto signed_by = [&](int k, __m256i signs) { return _mm256_sign_epi16(_mm256_set1_epi16(x[k]), signs); };
        const __m256i sums = _mm256_add_epi16(_mm256_add_epi16(signed_by(0, a), signed_by(1, b)),
                                              _mm256_add_epi16(signed_by(2, c), signed_by(3, d)));
        const __m256i low = _mm256_and_si256(sums, _mm256_set1_epi16(255)), high = _mm256_srli_epi16(sums, 8);
        const __m256i bytes = _mm256_packus_epi16(low, high);  // low, high, low, high of eight sums each
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), _mm256_permute4x64_epi64(bytes, 0xd8));
    }

    template <int ROWS>
    ALWAYS_INLINE static void add_word(const uint8_t* tables, int64_t of_row, const Weight (&weight)[1],
                                       Sums (&sums)[ROWS][1]) {
        const __m256i four = _mm256_set1_epi8(15);
        unrolled<8>([&](auto k) ALWAYS_INLINE {
            const __m256i eight = weight[0].bytes[k], first = _mm256_and_si256(eight, four);
            const __m256i second = _mm256_and_si256(_mm256_srli_epi16(eight, 4), four);
            unrolled<ROWS>([&](auto r) ALWAYS_INLINE {
                sums[r][0].look_up(tables + 2 * k * BYTES + r * of_row, first, second);
            });
        });
    }
};

}  // namespace
}  // namespace proxconnect
