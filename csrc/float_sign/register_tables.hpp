// Few rows, or many in turns. A table lies in a register, from which one instruction takes the entries of as many
// outputs as it has lanes.
//
// V has: Vector, of `lanes` floats, a multiple of 8; Bits, 32 bits of `lanes` rows of a weight; `groups`, the number of
// tables for these; `rows` and `vectors`, the number of sums that fit the registers; and `halves`, the number of half
// words whose bits fit them if there are few rows. `load_bits` takes the lower or the upper half of a word. `numbers`
// has the lanes' places in a table in its lowest bits, and `next` prepares those of the next table. `add_entries` may
// multiply by 1 and add in one instruction, in every other sum of several rows, which uses ports that would be idle.
#pragma once

#include "float_sign/group_scales.hpp"

namespace proxconnect {
namespace {

constexpr int64_t HALF = 32;       // entries of half a word, whose tables are adjacent
constexpr int ANY = -1, NONE = 0;  // the words of a group, if they are no constant, or there are no groups

template <class V>
constexpr int64_t TABLES = V::groups * V::lanes;  // of half a word

// The tables of half word h of row r begin at rows[r] + offsets[h].
template <int ROWS>
struct RowsOfTables {
    const float* rows[ROWS];
    const int64_t* offsets;
};

// Panels of VECTORS vectors, and their outputs, `count` of which exist. The last panel stands for those beyond it.
template <class V, int ROWS, int VECTORS>
struct Tile {
    using Vector = typename V::Vector;
    using Sums = Vector[ROWS][VECTORS];
    static constexpr int64_t PANELS = V::lanes / PANEL;  // to a vector
    static constexpr bool FEW = ROWS <= 2;               // V::halves half words of them fit the registers

    const FloatOutputs& o;
    const float* quantum;  // of each row, or null
    int64_t at, count, entries;
    const uint64_t* panels[VECTORS * PANELS];

    Tile(const FloatOutputs& outputs, const FloatRows& rows, int64_t panel)
        : o(outputs), quantum(rows.quantum), at(panel * PANEL), count(least(o.n, o.last * PANEL) - at),
          entries(rows.entries) {
        for (int64_t i = 0; i < VECTORS * PANELS; ++i) {
            panels[i] = o.panels + least(panel + i, o.last - 1) * words_of(rows.entries) * PANEL;
        }
    }

    ALWAYS_INLINE void scale(Sums& sums) const {
        const int64_t channel = o.channel + at;
        unrolled<VECTORS>([&](auto v) ALWAYS_INLINE {
            const Vector scale = V::load(o.then.output.scale + channel + v * V::lanes);
            const Vector bias = V::load(o.then.output.bias + channel + v * V::lanes);
            unrolled<ROWS>([&](auto r) ALWAYS_INLINE {
                if (quantum != nullptr) sums[r][v] *= quantum[r];
                sums[r][v] = sums[r][v] * scale + bias;
            });
        });
    }

    // Add the products of COUNT half words of a word, from the lower or the upper on. Their bits are loaded together,
    // because the lines of panels that are a multiple of a page apart displace each other in the first cache.
    template <int COUNT>
    ALWAYS_INLINE void add_halves(const RowsOfTables<ROWS>& tables, int64_t word, int64_t upper, Sums& sums) const {
        typename V::Bits bits[COUNT][VECTORS];
        unrolled<VECTORS>([&](auto v) ALWAYS_INLINE {
            unrolled<COUNT>([&](auto h) ALWAYS_INLINE {
                bits[h][v] = V::load_bits(panels + v * PANELS, word, upper + h);
            });
        });
        unrolled<COUNT>([&](auto h) ALWAYS_INLINE {
            const int64_t offset = tables.offsets[2 * word + upper + h];
            unrolled<V::groups>([&](auto g) ALWAYS_INLINE {
                unrolled<ROWS>([&](auto r) ALWAYS_INLINE {
                    const Vector table = V::load(tables.rows[r] + offset + g * V::lanes);
                    unrolled<VECTORS>([&](auto v) ALWAYS_INLINE {
                        constexpr bool MULTIPLIES = ROWS > 1 && (r + v) % 2 == 1;
                        const auto numbers = V::template numbers<g>(bits[h][v]);
                        sums[r][v] = V::template add_entries<MULTIPLIES>(sums[r][v], table, numbers);
                    });
                });
                unrolled<VECTORS>([&](auto v) ALWAYS_INLINE { bits[h][v] = V::template next<g>(bits[h][v]); });
            });
        });
    }

    ALWAYS_INLINE void add_word(const RowsOfTables<ROWS>& tables, int64_t word, Sums& sums) const {
        constexpr int AT_ONCE = V::halves;
        fetch_ahead(panels, word, words_of(entries));
        unrolled<2 / AT_ONCE>([&](auto i) ALWAYS_INLINE { add_halves<AT_ONCE>(tables, word, i * AT_ONCE, sums); });
    }

    ALWAYS_INLINE void add_words(const RowsOfTables<ROWS>& tables, int64_t begin, int64_t end, Sums& sums) const {
        if constexpr (FEW) {
            for (int64_t word = begin; word < end; ++word) add_word(tables, word, sums);
        } else {
            for (int64_t half = 2 * begin; half < 2 * end; ++half) add_halves<1>(tables, half / 2, half % 2, sums);
        }
    }

    ALWAYS_INLINE void add_all(const RowsOfTables<ROWS>& tables, int64_t begin, int64_t end, Sums& sums) const {
        add_words(tables, begin / 2, end / 2, sums);
        if (end % 2 != 0) add_halves<1>(tables, end / 2, 0, sums);
    }

    // The same, with the sums of each group of entries times their scales. Groups have WORDS words, or ANY number.
    template <int WORDS>
    ALWAYS_INLINE void add_groups(const RowsOfTables<ROWS>& tables, int64_t begin, int64_t end, Sums& sums) const {
        const int64_t group = WORDS == ANY ? words_of(o.then.output.group) : WORDS, last = end / 2;
        GroupScales scales(o.then.output, entries, at, begin / 2 / group);
        for (int64_t word = begin / 2; word < last;) {
            const int64_t next = WORDS == ANY ? least((word / group + 1) * group, last) : word + WORDS;
            Sums part = {};
            if constexpr (WORDS == ANY) {
                add_words(tables, word, next, part);
            } else {
                unrolled<WORDS>([&](auto i) ALWAYS_INLINE { add_word(tables, word + i, part); });
            }
            word = next;
            unrolled<VECTORS>([&](auto v) ALWAYS_INLINE {
                const Vector scale = scales.template vector<V>(v * V::lanes);
                unrolled<ROWS>([&](auto r) ALWAYS_INLINE { sums[r][v] += part[r][v] * scale; });
            });
            scales.go_to_next_group();
        }
    }

    // Add the products of half words [begin, end) to the outputs, which hold sums until the last one. WORDS is that of
    // add_groups, or NONE.
    template <int WORDS>
    void add(const RowsOfTables<ROWS>& tables, int64_t begin, int64_t end, bool is_last) const {
        Sums sums = {};
        float* const y = row_of(o, 0) + at;
        const int64_t stride = o.then.channels;
        if (begin > 0) {
            unrolled<ROWS>([&](auto r) ALWAYS_INLINE {
                unrolled<VECTORS>([&](auto v) ALWAYS_INLINE {
                    sums[r][v] = V::load_part(y + r * stride + v * V::lanes, count - v * V::lanes);
                });
            });
        }
        if constexpr (WORDS == NONE) add_all(tables, begin, end, sums);
        else add_groups<WORDS>(tables, begin, end, sums);
        if (is_last) scale(sums);
        unrolled<ROWS>([&](auto r) ALWAYS_INLINE {
            unrolled<VECTORS>([&](auto v) ALWAYS_INLINE {
                V::store_part(y + r * stride + v * V::lanes, sums[r][v], count - v * V::lanes);
            });
        });
    }
};

// Add the products of half words [begin, end) of ROWS rows to the outputs of all panels.
template <class V, int ROWS, int WORDS = NONE>
void add_products(const RowsOfTables<ROWS>& tables, const FloatRows& rows, const FloatOutputs& o, int64_t begin,
                  int64_t end) {
    constexpr int64_t PANELS = V::lanes / PANEL;
    const bool is_last = end * HALF >= rows.entries;
    int64_t panel = o.first;
    for (; panel + V::vectors * PANELS <= o.last; panel += V::vectors * PANELS) {
        Tile<V, ROWS, V::vectors>(o, rows, panel).template add<WORDS>(tables, begin, end, is_last);
    }
    for (; panel < o.last; panel += PANELS) {
        Tile<V, ROWS, 1>(o, rows, panel).template add<WORDS>(tables, begin, end, is_last);
    }
}

// Make the tables of a half word of row r, which may end before, or be rounded. Its calls would take the registers of
// the loop below.
template <class V>
__attribute__((noinline)) void make_other_tables(const FloatRows& rows, int64_t r, int64_t half, float* to) {
    float own[HALF] = {};
    const int64_t here = least(HALF, rows.entries - half * HALF);
    std::memcpy(own, rows.x + r * rows.stride + half * HALF, static_cast<size_t>(here) * sizeof(float));
    if (rows.quantum != nullptr) {
        for (float& value : own) value = value * rows.inverse[r] + TO_WHOLE - TO_WHOLE;
    }
    V::make_tables(own, to);
}

// Make the tables of half words [begin, end) of row r.
template <class V>
void make_tables(const FloatRows& rows, int64_t r, int64_t begin, int64_t end, const int64_t* offsets, float* to) {
    const int64_t plain = rows.quantum == nullptr ? least(end, rows.entries / HALF) : begin;
    const float* const x = rows.x + r * rows.stride;
    int64_t half = begin;
    for (; half < plain; ++half) V::make_tables(x + half * HALF, to + offsets[half]);
    for (; half < end; ++half) make_other_tables<V>(rows, r, half, to + offsets[half]);
}

template <class V, int ROWS>
void multiply_rows(const FloatRows& rows, const FloatOutputs& o) {
    constexpr int64_t AT_ONCE = 144 / ROWS;      // half words, whose tables stay in the second cache
    constexpr int COMMON = ROWS <= 2 ? 2 : ANY;  // words of a group without a loop: few rows take 1 % less
    static_assert(AT_ONCE % 4 == 0, "groups of COMMON words are whole");
    const int64_t group = o.then.output.group;
    const auto add = group == 0                   ? add_products<V, ROWS>
                     : group == COMMON * 2 * HALF ? add_products<V, ROWS, COMMON>
                                                  : add_products<V, ROWS, ANY>;
    const int64_t halves = ceil_div(rows.entries, HALF);
    auto* const tables = scratch<float, V>(least(AT_ONCE, halves) * ROWS * TABLES<V>);
    auto* const offsets = scratch<int64_t, RowsOfTables<ROWS>>(halves);
    RowsOfTables<ROWS> all = {{}, offsets};
    for (int64_t r = 0; r < ROWS; ++r) all.rows[r] = tables + r * TABLES<V>;
    for (int64_t half = 0; half < halves; ++half) offsets[half] = half % AT_ONCE * ROWS * TABLES<V>;
    for (int64_t begin = 0; begin == 0 || begin < halves; begin += AT_ONCE) {
        const int64_t end = least(begin + AT_ONCE, halves);
        for (int64_t r = 0; r < ROWS; ++r) make_tables<V>(rows, r, begin, end, offsets, tables + r * TABLES<V>);
        add(all, rows, o, begin, end);
    }
}

// Multiply all rows, ROWS at a time, then the rest with fewer.
template <class V, int ROWS = V::rows>
void multiply_by_register_tables(const FloatRows& rows, const FloatOutputs& outputs) {
    int64_t row = 0;
    for (; row + ROWS <= rows.count; row += ROWS) {
        multiply_rows<V, ROWS>(from_row(rows, row), from_row(outputs, row));
    }
    if constexpr (ROWS > 1) {
        if (row < rows.count) multiply_by_register_tables<V, ROWS - 1>(from_row(rows, row), from_row(outputs, row));
    }
}

}  // namespace
}  // namespace proxconnect
