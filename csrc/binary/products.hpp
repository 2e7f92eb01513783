// Products of signs, for any instruction set V. Eight rows of the weight form a panel, which stores word j of all eight
// together. A word of the input meets eight weights at once.
//
// V has: Vector, of `lanes` words; Count, to which a vector's differing bits are added; load, broadcast, add_differing;
// and `limit`, the number of words after which a Count must be emptied, if any. Its `totals` are a Vector of counts, to
// `add`. If `at_once` is above 1, `add_several` adds that many vectors of differing bits. `narrowed` makes V::outputs
// int32 of two Vectors of counts.
#pragma once

#include "binary/outputs.hpp"

namespace proxconnect {
namespace {

constexpr int64_t NEVER_FULL = 0;

// The `Tables` of an instruction set that counts without.
struct NoTables {
    static constexpr int panels = 0;
};

// Adjacent rows of `width` words.
struct AdjacentWords {
    int64_t count;
    const uint64_t* words;

    const uint64_t* row(int64_t r) const { return words + r * count; }
    int64_t input(int64_t j) const { return j; }
    int64_t weight(int64_t j) const { return j * PANEL; }
};

// Rows at `places`. Word j lies inputs[j] after that, and meets the words of a panel from weights[j] on.
struct ListedWords {
    int64_t count;
    const uint64_t* words;
    const int64_t *inputs, *weights, *places = nullptr;

    const uint64_t* row(int64_t r) const { return words + places[r]; }
    int64_t input(int64_t j) const { return inputs[j]; }
    int64_t weight(int64_t j) const { return weights[j]; }
};

// The number of differing bits of ROWS rows of the input and PANELS adjacent panels, which are `step` words apart.
template <class V, int ROWS, int PANELS>
struct Counts {
    static constexpr int per_panel = static_cast<int>(PANEL) / V::lanes, PARTS = per_panel * PANELS;
    static constexpr int64_t channels = PANELS * PANEL, size = channels < V::outputs ? V::outputs : channels;

    // Add V::at_once words from j on.
    template <class Words, class Count>
    static ALWAYS_INLINE void add_several(const Words& of, int64_t j, const uint64_t* const (&inputs)[ROWS],
                                          const uint64_t* panels, int64_t step, Count (&counts)[ROWS][PARTS]) {
        unrolled<PARTS>([&](auto p) ALWAYS_INLINE {
            typename V::Vector weights[V::at_once];
            unrolled<V::at_once>([&](auto i) ALWAYS_INLINE {
                weights[i] = V::load(panels + of.weight(j + i) + p / per_panel * step + p % per_panel * V::lanes);
            });
            unrolled<ROWS>([&](auto r) ALWAYS_INLINE {
                typename V::Vector differing[V::at_once];
                unrolled<V::at_once>([&](auto i) ALWAYS_INLINE {
                    differing[i] = weights[i] ^ V::broadcast(inputs[r][of.input(j + i)]);
                });
                V::add_several(counts[r][p], differing);
            });
        });
    }

    // Add word j.
    template <class Words, class Count>
    static ALWAYS_INLINE void add(const Words& of, int64_t j, const uint64_t* const (&inputs)[ROWS],
                                  const uint64_t* panels, int64_t step, Count (&counts)[ROWS][PARTS]) {
        const int64_t at = of.input(j);
        const uint64_t* const weights = panels + of.weight(j);
        typename V::Vector weight[PARTS];
        unrolled<PARTS>([&](auto p) ALWAYS_INLINE {
            weight[p] = V::load(weights + p / per_panel * step + p % per_panel * V::lanes);
        });
        unrolled<ROWS>([&](auto r) ALWAYS_INLINE {
            const typename V::Vector input = V::broadcast(inputs[r][at]);
            unrolled<PARTS>([&](auto p) ALWAYS_INLINE {
                counts[r][p] = V::add_differing(counts[r][p], input, weight[p]);
            });
        });
    }

    // Count words [begin, end).
    template <class Words, class Count>
    static ALWAYS_INLINE void count(const Words& of, int64_t begin, int64_t end, const uint64_t* const (&inputs)[ROWS],
                                    const uint64_t* panels, int64_t step, Count (&counts)[ROWS][PARTS]) {
        unrolled<ROWS * PARTS>([&](auto i) ALWAYS_INLINE { counts[i / PARTS][i % PARTS] = V::zero(); });
        if constexpr (V::at_once > 1) {
            for (; begin + V::at_once <= end; begin += V::at_once) {
                add_several(of, begin, inputs, panels, step, counts);
            }
        }
        if (begin < end) add(of, begin, inputs, panels, step, counts);
        for (int64_t j = begin + 1; j < end; ++j) add(of, j, inputs, panels, step, counts);
    }

    template <class Words>
    static ALWAYS_INLINE void sum(const Words& of, const uint64_t* panels, int64_t step, Entries entries,
                                  Ints<V> (&sums)[ROWS][size / V::outputs]) {
        if constexpr (PANELS == V::Tables::panels) return V::Tables::template sum<ROWS>(of, panels, entries, sums);
        const uint64_t* inputs[ROWS];
        unrolled<ROWS>([&](auto r) ALWAYS_INLINE { inputs[r] = of.row(r); });
        typename V::Vector totals[ROWS][PARTS];
        if constexpr (V::limit == NEVER_FULL) {
            count(of, 0, of.count, inputs, panels, step, totals);
        } else {
            unrolled<ROWS * PARTS>([&](auto i) ALWAYS_INLINE { totals[i / PARTS][i % PARTS] = V::none(); });
            for (int64_t begin = 0; begin < of.count; begin += V::limit) {
                typename V::Count counts[ROWS][PARTS];
                count(of, begin, least(of.count, begin + V::limit), inputs, panels, step, counts);
                unrolled<ROWS * PARTS>([&](auto i) ALWAYS_INLINE {
                    typename V::Vector& total = totals[i / PARTS][i % PARTS];
                    total = V::add(total, V::totals(counts[i / PARTS][i % PARTS]));
                });
            }
        }
        constexpr int PAIRS = size / V::outputs;
        unrolled<ROWS * PAIRS>([&](auto i) ALWAYS_INLINE {
            constexpr int r = i / PAIRS, p = i % PAIRS * 2;
            const typename V::Vector second = p + 1 < PARTS ? totals[r][p + 1 < PARTS ? p + 1 : p] : V::none();
            sums[r][p / 2] = entries.sums(V::narrowed(totals[r][p], second));
        });
    }
};

// Write ROWS rows of output, the channels of PANELS panels. Not inlined, because counts would otherwise not stay in
// registers.
template <class V, int ROWS, int PANELS, class Words>
__attribute__((noinline)) void tile(const Words& of, const uint8_t* nan, const uint64_t* panels, int64_t width,
                                    Entries entries, const Outputs& outputs, const int64_t* rows, Channels channels) {
    using Mine = Counts<V, ROWS, PANELS>;
    constexpr int PARTS = Mine::size / V::outputs, AT_ONCE = PARTS < 2 ? PARTS : 2;
    Ints<V> sums[ROWS][PARTS];
    Mine::sum(of, panels, width * PANEL, entries, sums);
    channels.end = least(channels.end, channels.begin + Mine::channels);
    for (int part = 0; part < PARTS; part += AT_ONCE) {
        Ints<V> some[ROWS][AT_ONCE];
        unrolled<ROWS * AT_ONCE>([&](auto i) ALWAYS_INLINE {
            some[i / AT_ONCE][i % AT_ONCE] = sums[i / AT_ONCE][part + i % AT_ONCE];
        });
        const int64_t first = channels.begin + part * V::outputs;
        put_sums<V>(some, outputs, rows, {first, least(channels.end, first + AT_ONCE * V::outputs)});
    }
    for (int r = 0; r < ROWS; ++r) {
        if (nan[r] != 0) put_nan(outputs, rows[r], channels);
    }
}

// Rows of signs, `width` words each.
struct Rows {
    const uint64_t* words;
    const uint8_t* nan;
    int64_t count, width;
    Entries entries;
};

template <class V, int ROWS, int PANELS>
inline void rows_of_linear(const Rows& of, int64_t row, const uint64_t* panels, const Outputs& outputs,
                           Channels channels) {
    int64_t rows[ROWS];
    unrolled<ROWS>([&](auto r) ALWAYS_INLINE { rows[r] = row + r; });
    const AdjacentWords words = {of.width, of.words + row * of.width};
    tile<V, ROWS, PANELS>(words, of.nan + row, panels, of.width, of.entries, outputs, rows, channels);
}

template <class V, int PANELS>
inline void strip(const Rows& of, const uint64_t* panels, const Outputs& outputs, int64_t panel) {
    const Channels channels = {panel * PANEL, outputs.channels};
    panels += panel * of.width * PANEL;
    if constexpr (PANELS == V::Tables::panels) panels = V::Tables::rearranged(panels, of.width);
    int64_t row = 0;
    for (; row + V::rows <= of.count; row += V::rows) {
        rows_of_linear<V, V::rows, PANELS>(of, row, panels, outputs, channels);
    }
    for (; row < of.count; ++row) rows_of_linear<V, 1, PANELS>(of, row, panels, outputs, channels);
}

template <class V>
void binary_linear(const SignRows& r, const uint64_t* panels, const Outputs& outputs, int64_t first, int64_t last) {
    const Rows of = {r.words, r.nan, r.count, words_of(r.entries), {static_cast<int32_t>(r.entries), 1}};
    int64_t panel = first;
    if constexpr (V::Tables::panels > 0) {
        const int64_t end = V::Tables::are_worth_it(of.count, of.width) ? last : first;
        for (; panel + V::Tables::panels <= end; panel += V::Tables::panels) {
            strip<V, V::Tables::panels>(of, panels, outputs, panel);
        }
    }
    for (; panel + V::panels <= last; panel += V::panels) strip<V, V::panels>(of, panels, outputs, panel);
    for (; panel < last; ++panel) strip<V, 1>(of, panels, outputs, panel);
}

}  // namespace
}  // namespace proxconnect
