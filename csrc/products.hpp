// Products of signs, for any instruction set V. Eight rows of the weight make a panel, of which word j of all eight lies
// together, so that a word of the input meets eight weights at once; K entries of which c differ give K - 2c.
//
// V has: Vector, `lanes` words; Count, what a vector's differing bits are added to; load, broadcast, add_differing; and
// `limit`, after how many words a Count must be emptied: its `totals` are a Vector of counts, to `add` and to `store`.
#pragma once

#include <cmath>
#include <cstring>
#include <type_traits>

#include "kernels.hpp"

namespace proxconnect {

constexpr int64_t PANEL = 8;

// Nameless, so that each file keeps its own: the linker would otherwise take any, AVX-512's for a machine without.
namespace {

inline int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

inline float held(int32_t sum, const Output& output) {
    const int64_t bound = int64_t{1} << (output.bits - 1), modulus = 2 * bound;
    if (output.overflow == SATURATE) return static_cast<float>(sum < -bound ? -bound : least(sum, bound - 1));
    const int64_t wrapped = ((sum + bound) & (modulus - 1)) - bound;  // the floored modulus, of a power of 2
    if (output.overflow == WRAP) return static_cast<float>(wrapped);
    const float size = static_cast<float>(wrapped < 0 ? -wrapped : wrapped);
    const float falling = output.slope * (static_cast<float>(bound) - size);
    return size <= falling ? static_cast<float>(wrapped) : (wrapped < 0 ? -falling : falling);
}

// The outputs of `here` channels from `channel` on; what differs is counted in `differing`.
template <class Here>
inline void scaled(const uint64_t* differing, int64_t entries, const Output& output, int64_t channel, Here here, float* y) {
    float values[PANEL];
    if (output.overflow == NEVER) {
        const int32_t all = static_cast<int32_t>(entries);
        for (int64_t i = 0; i < PANEL; ++i) values[i] = static_cast<float>(all - 2 * static_cast<int32_t>(differing[i]));
    } else {
        const int32_t all = static_cast<int32_t>(entries);
        for (int64_t i = 0; i < PANEL; ++i) values[i] = held(all - 2 * static_cast<int32_t>(differing[i]), output);
    }
    if (output.scale != nullptr) {
        if (output.scales == 1) {
            for (int64_t i = 0; i < here; ++i) values[i] *= output.scale[0];
        } else {
            for (int64_t i = 0; i < here; ++i) values[i] *= output.scale[channel + i];
        }
    }
    if (output.bias != nullptr) {
        for (int64_t i = 0; i < here; ++i) values[i] += output.bias[channel + i];
    }
    for (int64_t i = 0; i < here; ++i) y[channel + i] = values[i];
}

// Writes a row's part of one panel: eight channels, whose number is known when this is compiled, or the last ones.
inline void put(const uint64_t* differing, int64_t entries, const Output& output, bool is_nan, int64_t channel, int64_t n,
                float* y) {
    const int64_t here = least(PANEL, n - channel);
    if (is_nan) {
        for (int64_t i = 0; i < here; ++i) y[channel + i] = NAN;
    } else if (here == PANEL) {
        scaled(differing, entries, output, channel, std::integral_constant<int64_t, PANEL>(), y);
    } else {
        scaled(differing, entries, output, channel, here, y);
    }
}

// Where the words lie that are multiplied: `runs` runs of `length` words, of the input at inputs[row * runs + run], and
// of a panel from word places[run] on.
struct Runs {
    int64_t runs, length;
    const uint64_t* const* inputs;
    const int64_t* places;
};

// ROWS rows of the input, times PANELS panels of `width` words that follow each other, counted into `differing`.
template <class V, int ROWS, int PANELS>
inline void count(const Runs& of, const uint64_t* panels, int64_t width, uint64_t (&differing)[ROWS][PANELS * PANEL]) {
    constexpr int per_panel = static_cast<int>(PANEL) / V::lanes, PARTS = per_panel * PANELS;
    typename V::Count counts[ROWS][PARTS];
    int64_t room = 0;
    const auto clear = [&] {
#pragma GCC unroll 8
        for (int r = 0; r < ROWS; ++r) {
#pragma GCC unroll 8
            for (int p = 0; p < PARTS; ++p) counts[r][p] = V::zero();
        }
        room = V::limit;
    };
    bool is_first = true;
    const auto empty = [&] {
#pragma GCC unroll 8
        for (int r = 0; r < ROWS; ++r) {
#pragma GCC unroll 8
            for (int p = 0; p < PARTS; ++p) {
                uint64_t* const into = differing[r] + p * V::lanes;
                const typename V::Vector totals = V::totals(counts[r][p]);
                V::store(into, is_first ? totals : V::add(V::load(into), totals));
            }
        }
        is_first = false;
    };
    clear();
    for (int64_t run = 0; run < of.runs; ++run) {
        const uint64_t* const* const inputs = of.inputs + run;
        const uint64_t* const weights = panels + of.places[run] * PANEL;
        for (int64_t start = 0; start < of.length;) {
            const int64_t end = start + least(of.length - start, room);
            for (int64_t j = start; j < end; ++j) {
                typename V::Vector weight[PARTS];
#pragma GCC unroll 8
                for (int p = 0; p < PARTS; ++p) {
                    weight[p] = V::load(weights + (p / per_panel * width + j) * PANEL + p % per_panel * V::lanes);
                }
#pragma GCC unroll 8
                for (int r = 0; r < ROWS; ++r) {
                    const typename V::Vector input = V::broadcast(inputs[r * of.runs][j]);
#pragma GCC unroll 8
                    for (int p = 0; p < PARTS; ++p) counts[r][p] = V::add_differing(counts[r][p], input, weight[p]);
                }
            }
            room -= end - start;
            start = end;
            if (room == 0) {
                empty();
                clear();
            }
        }
    }
    empty();
}

// ROWS rows of output, each of n channels, of which those of PANELS panels from `channel` on are written.
template <class V, int ROWS, int PANELS>
inline void tile(const Runs& of, const uint8_t* nan, const uint64_t* panels, int64_t width, int64_t n, int64_t entries,
                 const Output& output, float* const* y, int64_t channel) {
    uint64_t differing[ROWS][PANELS * PANEL];
    count<V, ROWS, PANELS>(of, panels, width, differing);
    for (int r = 0; r < ROWS; ++r) {
        for (int p = 0; p < PANELS; ++p) {
            const int64_t first = channel + p * PANEL;
            if (first < n) put(differing[r] + p * PANEL, entries, output, nan[r] != 0, first, n, y[r]);
        }
    }
}

// All channels of ROWS rows.
template <class V, int ROWS>
inline void across(const Runs& of, const uint8_t* nan, const uint64_t* panels, int64_t width, int64_t n, int64_t entries,
                   const Output& output, float* const* y) {
    const int64_t count = (n + PANEL - 1) / PANEL;
    int64_t panel = 0;
    for (; panel + V::panels <= count; panel += V::panels) {
        tile<V, ROWS, V::panels>(of, nan, panels + panel * width * PANEL, width, n, entries, output, y, panel * PANEL);
    }
    for (; panel < count; ++panel) {
        tile<V, ROWS, 1>(of, nan, panels + panel * width * PANEL, width, n, entries, output, y, panel * PANEL);
    }
}

template <class V, int ROWS, int PANELS>
inline void rows_of_linear(const uint64_t* rows, const uint8_t* nan, const uint64_t* panels, int64_t width, int64_t n,
                           int64_t entries, const Output& output, float* y, int64_t channel) {
    const uint64_t* inputs[ROWS];
    float* outputs[ROWS];
    for (int r = 0; r < ROWS; ++r) inputs[r] = rows + r * width, outputs[r] = y + r * n;
    const int64_t place = 0;
    tile<V, ROWS, PANELS>({1, width, inputs, &place}, nan, panels, width, n, entries, output, outputs, channel);
}

template <class V, int PANELS>
inline void strip(const uint64_t* rows, const uint8_t* nan, const uint64_t* panels, int64_t m, int64_t width, int64_t n,
                  int64_t entries, const Output& output, float* y, int64_t channel) {
    int64_t row = 0;
    for (; row + V::rows <= m; row += V::rows) {
        rows_of_linear<V, V::rows, PANELS>(rows + row * width, nan + row, panels, width, n, entries, output, y + row * n,
                                           channel);
    }
    for (; row < m; ++row) {
        rows_of_linear<V, 1, PANELS>(rows + row * width, nan + row, panels, width, n, entries, output, y + row * n,
                                     channel);
    }
}

template <class V>
void binary_linear(const uint64_t* rows, const uint8_t* nan, const uint64_t* panels, int64_t m, int64_t n,
                   int64_t entries, const Output& output, float* y, int64_t first, int64_t last) {
    const int64_t width = (entries + 63) / 64;
    int64_t panel = first;
    for (; panel + V::panels <= last; panel += V::panels) {
        strip<V, V::panels>(rows, nan, panels + panel * width * PANEL, m, width, n, entries, output, y, panel * PANEL);
    }
    for (; panel < last; ++panel) {
        strip<V, 1>(rows, nan, panels + panel * width * PANEL, m, width, n, entries, output, y, panel * PANEL);
    }
}

// The signs of one row, 64 at a time by V::signs, which takes 64 floats and tells of NaN.
template <class V>
bool pack_row(const float* x, int64_t columns, uint64_t* words) {
    bool has_nan = false;
    int64_t j = 0;
    for (; (j + 1) * 64 <= columns; ++j) words[j] = V::signs(x + j * 64, has_nan);
    if (columns % 64 != 0) {
        float rest[64];
        const int64_t left = columns - j * 64;
        for (int64_t i = 0; i < 64; ++i) rest[i] = i < left ? x[j * 64 + i] : -1.0f;
        words[j] = V::signs(rest, has_nan);
    }
    return has_nan;
}

}  // namespace
}  // namespace proxconnect
