// Products of signs, for any instruction set V. Eight rows of the weight form a panel, which stores word j of all eight
// together. A word of the input meets eight weights at once.
//
// V has: Vector, of `lanes` words; Count, to which a vector's differing bits are added; load, broadcast, add_differing;
// and `limit`, the number of words after which a Count must be emptied, if any. Its `totals` are a Vector of counts, to
// `add` and to `store`. `narrowed` makes int32 of V::outputs counts.
#pragma once

#include "binary/outputs.hpp"

namespace proxconnect {
namespace {

// The words to multiply: `runs` runs of `length` words. A run begins at inputs[row * runs + run] in the input, and at
// word places[run] in a panel.
struct Runs {
    int64_t runs, length;
    const uint64_t* const* inputs;
    const int64_t* places;
};

constexpr int64_t NEVER_FULL = 0;

// The counts of ROWS rows of the input with PANELS adjacent panels of `width` words.
template <class V, int ROWS, int PANELS>
struct Counts {
    static constexpr int per_panel = static_cast<int>(PANEL) / V::lanes, PARTS = per_panel * PANELS;
    static constexpr int64_t channels = PANELS * PANEL, size = channels < V::outputs ? V::outputs : channels;

    typename V::Count counts[ROWS][PARTS];

    void clear() {
#pragma GCC unroll 8
        for (int r = 0; r < ROWS; ++r) {
#pragma GCC unroll 8
            for (int p = 0; p < PARTS; ++p) counts[r][p] = V::zero();
        }
    }

    // Add word j of a run, which begins at `inputs` in each row, `runs` pointers apart.
    void add(const uint64_t* const* inputs, int64_t runs, const uint64_t* weights, int64_t width, int64_t j) {
        typename V::Vector weight[PARTS];
#pragma GCC unroll 8
        for (int p = 0; p < PARTS; ++p) {
            weight[p] = V::load(weights + (p / per_panel * width + j) * PANEL + p % per_panel * V::lanes);
        }
#pragma GCC unroll 8
        for (int r = 0; r < ROWS; ++r) {
            const typename V::Vector input = V::broadcast(inputs[r * runs][j]);
#pragma GCC unroll 8
            for (int p = 0; p < PARTS; ++p) counts[r][p] = V::add_differing(counts[r][p], input, weight[p]);
        }
    }

    void empty(uint64_t (&differing)[ROWS][size], bool is_first) const {
#pragma GCC unroll 8
        for (int r = 0; r < ROWS; ++r) {
#pragma GCC unroll 8
            for (int p = 0; p < PARTS; ++p) {
                uint64_t* const into = differing[r] + p * V::lanes;
                const typename V::Vector totals = V::totals(counts[r][p]);
                V::store(into, is_first ? totals : V::add(V::load(into), totals));
            }
        }
    }

    // Count all runs, into `differing`.
    void count(const Runs& of, const uint64_t* panels, int64_t width, uint64_t (&differing)[ROWS][size]) {
        clear();
        bool is_first = true;
        int64_t room = V::limit;
        for (int64_t run = 0; run < of.runs; ++run) {
            const uint64_t* const* const inputs = of.inputs + run;
            const uint64_t* const weights = panels + of.places[run] * PANEL;
            if constexpr (V::limit == NEVER_FULL) {
                for (int64_t j = 0; j < of.length; ++j) add(inputs, of.runs, weights, width, j);
                continue;
            }
            for (int64_t j = 0; j < of.length;) {
                const int64_t start = j, end = j + least(of.length - j, room);
                for (; j < end; ++j) add(inputs, of.runs, weights, width, j);
                room -= end - start;
                if (room > 0) continue;
                empty(differing, is_first);
                clear();
                is_first = false, room = V::limit;
            }
        }
        empty(differing, is_first);
    }
};

// Write ROWS rows of output, the channels of PANELS panels.
template <class V, int ROWS, int PANELS>
inline void tile(const Runs& of, const uint8_t* nan, const uint64_t* panels, int64_t width, Entries entries,
                 const Outputs& outputs, const int64_t* rows, Channels channels) {
    using Mine = Counts<V, ROWS, PANELS>;
    uint64_t differing[ROWS][Mine::size];
    if constexpr (Mine::size > Mine::channels) std::memset(differing, 0, sizeof differing);
    Mine().count(of, panels, width, differing);
    channels.end = least(channels.end, channels.begin + Mine::channels);
    const auto sums = [&](int r, int64_t c) { return entries.sums(V::narrowed(differing[r] + c)); };
    put<V, ROWS, Mine::size>(sums, outputs, rows, channels);
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
    const uint64_t* inputs[ROWS];
    int64_t rows[ROWS];
    for (int r = 0; r < ROWS; ++r) inputs[r] = of.words + (row + r) * of.width, rows[r] = row + r;
    const int64_t place = 0;
    const Runs one = {1, of.width, inputs, &place};
    tile<V, ROWS, PANELS>(one, of.nan + row, panels, of.width, of.entries, outputs, rows, channels);
}

template <class V, int PANELS>
inline void strip(const Rows& of, const uint64_t* panels, const Outputs& outputs, int64_t panel) {
    const Channels channels = {panel * PANEL, outputs.channels};
    panels += panel * of.width * PANEL;
    int64_t row = 0;
    for (; row + V::rows <= of.count; row += V::rows) {
        rows_of_linear<V, V::rows, PANELS>(of, row, panels, outputs, channels);
    }
    for (; row < of.count; ++row) rows_of_linear<V, 1, PANELS>(of, row, panels, outputs, channels);
}

template <class V>
void binary_linear(const uint64_t* rows, const uint8_t* nan, const uint64_t* panels, int64_t m, int64_t entries,
                   const Outputs& outputs, int64_t first, int64_t last) {
    const Rows of = {rows, nan, m, words_of(entries), {static_cast<int32_t>(entries), 1}};
    int64_t panel = first;
    for (; panel + V::panels <= last; panel += V::panels) strip<V, V::panels>(of, panels, outputs, panel);
    for (; panel < last; ++panel) strip<V, 1>(of, panels, outputs, panel);
}

}  // namespace
}  // namespace proxconnect
