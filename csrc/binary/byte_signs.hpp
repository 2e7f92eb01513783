// Signs as bytes: 1 for a set bit, else -1.
#pragma once

#include "binary/signs.hpp"
#include "isa/avx512.hpp"

namespace proxconnect {
namespace {

// Up to 64 entries that are adjacent both in a patch of bytes, from byte `at` on, and in rows of the weight, from bit
// `bit` on.
struct Span {
    int64_t at, bit, count;
};

constexpr int64_t SPAN = 64;

inline void spread_word(uint64_t word, int8_t* to) {
    _mm512_store_si512(to, _mm512_mask_blend_epi8(word, _mm512_set1_epi8(-1), _mm512_set1_epi8(1)));
}

// Write `count` bits from place `at` on as bytes, up to a whole span. One word beyond the last is read.
inline void spread_bits(const uint64_t* words, int64_t at, int64_t count, int8_t* to) {
    for (; count > 0; count -= SPAN, at += SPAN, to += SPAN) spread_word(bits_at(words, at, least(count, SPAN)), to);
}

// The weight as tiles read it: four entries of each of sixteen outputs, then the next four.
class SpreadWeight {
  public:
    // Rows of the weight have `width` words.
    SpreadWeight(const uint64_t* panels, int64_t count, int64_t width)
        : panels_(panels), count_(count), width_(width) {}

    // Spread the sixteen outputs that begin with a panel. The last panel stands for those beyond it. Entries beyond the
    // end of the span are 0.
    void spread(int64_t panel, const Span& span, int8_t* to) const {
        spread(words(panel, span.bit), words(least(panel + 1, count_ - 1), span.bit), span.count, to);
    }

    // The same for `count` bits of each of two panels.
    static void spread(__m512i low, __m512i high, int64_t count, int8_t* to) {
        spread_panels(low, high, fours_of_bits(-1, 1), to, SPAN);
        if (count < SPAN) clear_after(count, to);
    }

    // Return 64 bits of each of the eight rows of a panel.
    __m512i words(int64_t panel, int64_t bit) const {
        const int64_t word = bit / 64;
        const uint64_t* const of_panel = panels_ + panel * width_ * PANEL;
        const __m512i first = _mm512_loadu_si512(of_panel + word * PANEL);
        if (bit % 64 == 0) return first;
        const __m512i next = _mm512_loadu_si512(of_panel + least(word + 1, width_ - 1) * PANEL);
        const __m128i low = _mm_cvtsi64_si128(bit % 64), high = _mm_cvtsi64_si128(64 - bit % 64);
        return _mm512_or_si512(_mm512_srl_epi64(first, low), _mm512_sll_epi64(next, high));
    }

  private:
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
