// Signs as bytes: 1 for a bit that is 1, and -1 for one that is 0.
#pragma once

#include <immintrin.h>

#include "binary/signs.hpp"

namespace proxconnect {
namespace {

// Up to 64 entries that lie together both in a patch of bytes, `at` bytes from its begin, and in rows of the weight,
// from bit `bit` on.
struct Span {
    int64_t at, bit, count;
};

constexpr int64_t SPAN = 64;

// So many bits from place `at` on as bytes, up to a whole span; a word beyond the last is read.
inline void spread_bits(const uint64_t* words, int64_t at, int64_t count, int8_t* to) {
    const __m512i minus = _mm512_set1_epi8(-1), plus = _mm512_set1_epi8(1);
    for (; count > 0; count -= SPAN, at += SPAN, to += SPAN) {
        _mm512_store_si512(to, _mm512_mask_blend_epi8(bits_at(words, at, least(count, SPAN)), minus, plus));
    }
}

// The weight as a tile wants it: four entries of each of sixteen outputs, then the next four.
class SpreadWeight {
  public:
    static constexpr int64_t TILE_BYTES = 16 * SPAN;

    // Rows of the weight are `width` words.
    SpreadWeight(const uint64_t* panels, int64_t count, int64_t width)
        : panels_(panels), count_(count), width_(width) {}

    // Of the sixteen outputs that begin with a panel. What is beyond the last panel is that one again, what is beyond a
    // span's end is 0.
    void spread(int64_t panel, const Span& span, int8_t* to) const {
        const __m512i a = words(panel, span.bit), b = words(least(panel + 1, count_ - 1), span.bit);
        const __m512i even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
        const __m512i odd = _mm512_add_epi32(even, _mm512_set1_epi32(1));
        spread_half(_mm512_permutex2var_epi32(a, even, b), to);
        spread_half(_mm512_permutex2var_epi32(a, odd, b), to + TILE_BYTES / 2);
        if (span.count < SPAN) clear_after(span.count, to);
    }

  private:
    // 64 bits of the eight rows of a panel.
    __m512i words(int64_t panel, int64_t bit) const {
        const int64_t word = bit / 64, next = least(word + 1, width_ - 1);
        const uint64_t* const of_panel = panels_ + panel * width_ * PANEL;
        const __m128i low = _mm_cvtsi64_si128(bit % 64), high = _mm_cvtsi64_si128(64 - bit % 64);
        return _mm512_or_si512(_mm512_srl_epi64(_mm512_loadu_si512(of_panel + word * PANEL), low),
                               _mm512_sll_epi64(_mm512_loadu_si512(of_panel + next * PANEL), high));
    }

    // Four bits name one of sixteen fours of bytes.
    static void spread_half(__m512i bits, int8_t* to) {
        const __m512i fours =
            _mm512_mask_blend_epi8(0xfedcba9876543210, _mm512_set1_epi8(-1), _mm512_set1_epi8(1));
#pragma GCC unroll 8
        for (int i = 0; i < 8; ++i, bits = _mm512_srli_epi32(bits, 4)) {
            _mm512_storeu_si512(to + i * 64, _mm512_permutexvar_epi32(bits, fours));
        }
    }

    static void clear_after(int64_t count, int8_t* tile) {
        for (int64_t four = count / 4; four < SPAN / 4; ++four) {
            const int64_t left = most(0, count - four * 4);
            const __m512i kept = _mm512_set1_epi32((1 << (8 * left)) - 1);
            int8_t* const at = tile + four * 64;
            _mm512_storeu_si512(at, _mm512_and_si512(_mm512_loadu_si512(at), kept));
        }
    }

    const uint64_t* const panels_;
    const int64_t count_, width_;
};

}  // namespace
}  // namespace proxconnect
