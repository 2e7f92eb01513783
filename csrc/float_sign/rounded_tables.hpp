// Few rounded rows by tables of their sums. Four entries within ±127 have 16 sums ±a±b±c±d of 16 bits, one of which four
// bits of the weight select, for 32 outputs at once.
//
// T has: BYTES, the size of a table; `put`, which makes the table of four bytes; Weight, whose `load` arranges a word of
// 32 outputs; Sums of 16 bits, whose `add_to` adds them to vectors of floats; `add_word`, which adds the products of a
// word of ROWS rows; and `blocks`, the number of 32 outputs that share loads of tables. V has the vectors of floats of
// register_tables.hpp.
#pragma once

#include "float_sign/group_scales.hpp"

namespace proxconnect {
namespace {

constexpr int64_t FOURS = 16;                              // of a word
constexpr int64_t WORDS_AT_ONCE = INT16_MAX / (64 * 127);  // whose sums have 16 bits

// Make the tables of a row of `words` words. Entries after the last are 0.
template <class T>
void make_rounded_tables(const float* x, float inverse, int64_t entries, int64_t words, uint8_t* to) {
    auto* const whole = scratch<int8_t, T>(words * 64);
    for (int64_t k = 0; k < entries; ++k) {
        const float rounded = x[k] * inverse + TO_WHOLE;
        int32_t bits;
        std::memcpy(&bits, &rounded, sizeof bits);
        whole[k] = static_cast<int8_t>(bits);
    }
    std::memset(whole + entries, 0, static_cast<size_t>(words * 64 - entries));
    for (int64_t four = 0; four < words * FOURS; ++four) T::put(whole + 4 * four, to + four * T::BYTES);
}

// ROWS rows times BLOCKS blocks of 32 outputs, from `panel` on.
template <class T, class V, int ROWS, int BLOCKS>
class RoundedTile {
  public:
    RoundedTile(const FloatRows& rows, const FloatOutputs& outputs, int64_t panel)
        : rows_(rows), o_(outputs), words_(words_of(rows.entries)), at_(panel * PANEL),
          count_(least(o_.n, o_.last * PANEL) - at_) {
        for (int64_t p = 0; p < PANELS; ++p) panels_[p] = o_.panels + least(panel + p, o_.last - 1) * words_ * PANEL;
    }

    void run(const uint8_t* tables) const {
        Sums sums = {};
        if (o_.then.output.group == 0) add<false>(tables, words_, sums);
        else add<true>(tables, o_.then.output.group / 64, sums);
        put(sums);
    }

  private:
    static constexpr int PANELS = 4 * BLOCKS, VECTORS = PANELS * PANEL / V::lanes, OF_BLOCK = VECTORS / BLOCKS;

    using Sums = typename V::Vector[ROWS][VECTORS];

    // Add the products of all words to the sums, or those of each group of words times its scales.
    template <bool IN_GROUPS>
    void add(const uint8_t* tables, int64_t group, Sums& sums) const {
        GroupScales scales(o_.then.output, rows_.entries, at_, 0);
        for (int64_t begin = 0; begin < words_; begin += group) {
            Sums part = {};
            for (int64_t word = begin, next; word < begin + group; word = next) {
                next = least(word + WORDS_AT_ONCE, begin + group);
                add_words(tables, word, next, IN_GROUPS ? part : sums);
            }
            if (!IN_GROUPS) continue;
            unrolled<VECTORS>([&](auto v) ALWAYS_INLINE {
                const auto scale = scales.template vector<V>(v * V::lanes);
                unrolled<ROWS>([&](auto r) ALWAYS_INLINE { sums[r][v] += part[r][v] * scale; });
            });
            scales.go_to_next_group();
        }
    }

    // Add words [begin, end), at most WORDS_AT_ONCE of them.
    ALWAYS_INLINE void add_words(const uint8_t* tables, int64_t begin, int64_t end, Sums& sums) const {
        typename T::Sums found[ROWS][BLOCKS] = {};
        for (int64_t word = begin; word < end; ++word) {
            fetch_ahead(panels_, word, words_);
            typename T::Weight weight[BLOCKS];
            unrolled<BLOCKS>([&](auto b) ALWAYS_INLINE { weight[b].load(panels_ + 4 * b, word); });
            T::add_word(tables + word * FOURS * T::BYTES, bytes_of_row(), weight, found);
        }
        unrolled<ROWS>([&](auto r) ALWAYS_INLINE {
            unrolled<BLOCKS>([&](auto b) ALWAYS_INLINE { found[r][b].add_to(sums[r] + b * OF_BLOCK); });
        });
    }

    int64_t bytes_of_row() const { return words_ * FOURS * T::BYTES; }

    void put(Sums& sums) const {
        const Output& output = o_.then.output;
        unrolled<VECTORS>([&](auto v) ALWAYS_INLINE {
            const int64_t channel = o_.channel + at_ + v * V::lanes, left = count_ - v * V::lanes;
            if (left <= 0) return;
            const auto scale = V::load(output.scale + channel), bias = V::load(output.bias + channel);
            unrolled<ROWS>([&](auto r) ALWAYS_INLINE {
                V::store_part(row_of(o_, r) + at_ + v * V::lanes, sums[r][v] * rows_.quantum[r] * scale + bias, left);
            });
        });
    }

    const FloatRows& rows_;
    const FloatOutputs& o_;
    const int64_t words_, at_, count_;
    const uint64_t* panels_[PANELS];
};

// Multiply ROWS rows by all panels.
template <class T, class V, int ROWS>
void multiply_rounded(const FloatRows& rows, const FloatOutputs& o) {
    const int64_t words = words_of(rows.entries), bytes = words * FOURS * T::BYTES;
    auto* const tables = scratch<uint8_t, FloatRows>(ROWS * bytes);
    for (int64_t r = 0; r < ROWS; ++r) {
        make_rounded_tables<T>(rows.x + r * rows.stride, rows.inverse[r], rows.entries, words, tables + r * bytes);
    }
    int64_t panel = o.first;
    for (; panel + 4 * T::blocks <= o.last; panel += 4 * T::blocks) {
        RoundedTile<T, V, ROWS, T::blocks>(rows, o, panel).run(tables);
    }
    for (; panel < o.last; panel += 4) RoundedTile<T, V, ROWS, 1>(rows, o, panel).run(tables);
}

// Multiply all rows, ROWS at a time, then the rest with fewer.
template <class T, class V, int ROWS>
void multiply_by_rounded_tables(const FloatRows& rows, const FloatOutputs& o) {
    int64_t row = 0;
    for (; row + ROWS <= rows.count; row += ROWS) multiply_rounded<T, V, ROWS>(from_row(rows, row), from_row(o, row));
    if constexpr (ROWS > 1) {
        if (row < rows.count) multiply_by_rounded_tables<T, V, ROWS - 1>(from_row(rows, row), from_row(o, row));
    }
}

}  // namespace
}  // namespace proxconnect
