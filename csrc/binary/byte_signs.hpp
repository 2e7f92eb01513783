// Signs as bytes: 1 for a set bit, else -1.
#pragma once

#include "binary/signs.hpp"
#include "int8/sign_panels.hpp"
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
        PanelWords low, high;
        read_bits(of_panel(panel), span.bit, span.count, width_ - 1, low);
        read_bits(of_panel(least(panel + 1, count_ - 1)), span.bit, span.count, width_ - 1, high);
        spread_panels((__m512i)low, (__m512i)high, fours_of_bits(-1, 1), to, SPAN);
        if (span.count < SPAN) clear_after(span.count, to);
    }

  private:
    const uint64_t* of_panel(int64_t panel) const { return panels_ + panel * width_ * PANEL; }

    const uint64_t* const panels_;
    const int64_t count_, width_;
};

}  // namespace
}  // namespace proxconnect
