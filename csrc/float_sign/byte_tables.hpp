// Few rounded rows with AVX2. Four entries within ±127 have 16 sums ±a±b±c±d of 16 bits. Their low bytes fill a table of
// 16 bytes, and their high bytes another. vpshufb looks up both for 32 outputs, by four bits of the weight.
#pragma once

#include <immintrin.h>

#include "float_sign/group_scales.hpp"

namespace proxconnect {
namespace {

// The tables of four entries after one another, for whole words of a row.
struct ByteTables {
    static constexpr int64_t OF_WORD = 16, BYTES = 32;  // fours of a word; low and high bytes
    static constexpr int64_t MOST_WORDS = INT16_MAX / (OF_WORD * 4 * 127);  // whose sums have 16 bits

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

    // Make the tables of a row of `words` words. Entries after the last are 0.
    static void make(const float* x, float inverse, int64_t entries, int64_t words, uint8_t* to) {
        auto* const whole = scratch<int8_t, ByteTables>(words * 64);
        for (int64_t k = 0; k < entries; ++k) {
            const float rounded = x[k] * inverse + TO_WHOLE;
            int32_t bits;
            std::memcpy(&bits, &rounded, sizeof bits);
            whole[k] = static_cast<int8_t>(bits);
        }
        std::memset(whole + entries, 0, static_cast<size_t>(words * 64 - entries));
        for (int64_t four = 0; four < words * OF_WORD; ++four) put(whole + 4 * four, to + four * BYTES);
    }
};

// A word of 32 outputs, arranged by entries: byte i of vector k has entries 8k to 8k + 7 of output i.
struct Transposed {
    __m256i bytes[8];

    explicit Transposed(const uint64_t* const (&panels)[4], int64_t word) {
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

// ROWS rows times 32 outputs from `panel` on. V has the vectors of floats of register_tables.hpp.
template <class V, int ROWS>
class ByteTile {
  public:
    static constexpr int64_t OUTPUTS = 32, VECTORS = OUTPUTS / V::lanes;

    ByteTile(const FloatRows& rows, const FloatOutputs& outputs, int64_t panel)
        : rows_(rows), o_(outputs), words_(words_of(rows.entries)), at_(panel * PANEL),
          count_(least(o_.n, o_.last * PANEL) - at_) {
        for (int64_t p = 0; p < 4; ++p) panels_[p] = o_.panels + least(panel + p, o_.last - 1) * words_ * PANEL;
    }

    void run(const uint8_t* tables) const {
        Sums sums = {};
        if (o_.then.output.group == 0) add<false>(tables, words_, sums);
        else add<true>(tables, o_.then.output.group / 64, sums);
        put(sums);
    }

  private:
    using Sums = typename V::Vector[ROWS][VECTORS];

    // Add the products of all words to the sums, or those of each group of words times its scales.
    template <bool IN_GROUPS>
    void add(const uint8_t* tables, int64_t group, Sums& sums) const {
        GroupScales scales(o_.then.output, rows_.entries, at_, 0);
        for (int64_t begin = 0; begin < words_; begin += group) {
            Sums part = {};
            for (int64_t word = begin, next; word < begin + group; word = next) {
                next = least(word + ByteTables::MOST_WORDS, begin + group);
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

    // Low bytes of sums of 16 bits, of panels 0 and 2, then of panels 1 and 3, and high bytes of all.
    struct Found {
        __m256i low[2], high;
    };

    // Add words [begin, end), at most MOST_WORDS of them.
    ALWAYS_INLINE void add_words(const uint8_t* tables, int64_t begin, int64_t end, Sums& sums) const {
        const __m256i zero = _mm256_setzero_si256(), four = _mm256_set1_epi8(15);
        Found found[ROWS];
        unrolled<ROWS>([&](auto r) ALWAYS_INLINE { found[r] = {{zero, zero}, zero}; });
        for (int64_t word = begin; word < end; ++word) {
            fetch_ahead(panels_, word, words_);
            const Transposed weight(panels_, word);
            unrolled<8>([&](auto k) ALWAYS_INLINE {
                const __m256i first = _mm256_and_si256(weight.bytes[k], four);
                const __m256i second = _mm256_and_si256(_mm256_srli_epi16(weight.bytes[k], 4), four);
                const uint8_t* const here = tables + (word * ByteTables::OF_WORD + 2 * k) * ByteTables::BYTES;
                unrolled<ROWS>([&](auto r) ALWAYS_INLINE {
                    look_up(here + r * bytes_of_row(), first, second, found[r]);
                });
            });
        }
        unrolled<ROWS>([&](auto r) ALWAYS_INLINE {
            const __m256i all[2] = {
                _mm256_add_epi16(found[r].low[0], _mm256_unpacklo_epi8(zero, found[r].high)),
                _mm256_add_epi16(found[r].low[1], _mm256_unpackhi_epi8(zero, found[r].high)),
            };
            for (int panel = 0; panel < 4; ++panel) {
                const __m256i of_two = all[panel % 2];
                const __m128i eight = panel < 2 ? _mm256_castsi256_si128(of_two) : _mm256_extracti128_si256(of_two, 1);
                sums[r][panel] += _mm256_cvtepi32_ps(_mm256_cvtepi16_epi32(eight));
            }
        });
    }

    // Look up the sums of two fours. Their low bytes are added as they become 16 bits, and their high bytes as they are.
    ALWAYS_INLINE static void look_up(const uint8_t* tables, __m256i first, __m256i second, Found& found) {
        const auto at = [&](int i, __m256i numbers) ALWAYS_INLINE {
            const __m128i table = _mm_loadu_si128(reinterpret_cast<const __m128i*>(tables) + i);
            return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(table), numbers);
        };
        const __m256i low[2] = {at(0, first), at(2, second)}, one = _mm256_set1_epi8(1);
        found.low[0] = _mm256_add_epi16(found.low[0], _mm256_maddubs_epi16(_mm256_unpacklo_epi8(low[0], low[1]), one));
        found.low[1] = _mm256_add_epi16(found.low[1], _mm256_maddubs_epi16(_mm256_unpackhi_epi8(low[0], low[1]), one));
        found.high = _mm256_add_epi8(found.high, _mm256_add_epi8(at(1, first), at(3, second)));
    }

    int64_t bytes_of_row() const { return words_ * ByteTables::OF_WORD * ByteTables::BYTES; }

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
    const uint64_t* panels_[4];
};

// Multiply all rows, ROWS at a time, then the rest with fewer.
template <class V, int ROWS>
void multiply_by_byte_tables(const FloatRows& rows, const FloatOutputs& o) {
    const int64_t words = words_of(rows.entries), bytes = words * ByteTables::OF_WORD * ByteTables::BYTES;
    int64_t row = 0;
    for (; row + ROWS <= rows.count; row += ROWS) {
        const FloatRows some = from_row(rows, row);
        const FloatOutputs to = from_row(o, row);
        auto* const tables = scratch<uint8_t, ByteTables>(ROWS * bytes);
        for (int64_t r = 0; r < ROWS; ++r) {
            ByteTables::make(some.x + r * some.stride, some.inverse[r], some.entries, words, tables + r * bytes);
        }
        for (int64_t panel = o.first; panel < o.last; panel += 4) ByteTile<V, ROWS>(some, to, panel).run(tables);
    }
    if constexpr (ROWS > 1) {
        if (row < rows.count) multiply_by_byte_tables<V, ROWS - 1>(from_row(rows, row), from_row(o, row));
    }
}

}  // namespace
}  // namespace proxconnect
