// Few rows, or many in turns. A table lies in a register, from which one instruction takes the entries of as many
// outputs as it has lanes.
//
// V has: Vector, of `lanes` floats, a multiple of 8; Bits, 32 bits of `lanes` rows of a weight; `groups`, the number of
// tables for these; and `rows` and `vectors`, the number of sums that fit the registers.
#pragma once

#include "float_sign/kernels.hpp"

namespace proxconnect {
namespace {

template <class V, int ROWS>
struct RegisterTables {
    using Vector = typename V::Vector;
    static constexpr int64_t PANELS = V::lanes / PANEL;  // to a vector
    static constexpr int64_t TABLES = V::groups * ROWS * V::lanes;
    static constexpr int64_t WORDS = ROWS == 1 ? 64 : 24 / ROWS;  // at once, whose tables stay in the caches

    // Fill the tables of 32 entries. Those of a group are adjacent for all rows.
    static void fill(const FloatRows& rows, int64_t k, float* tables) {
        const int64_t here = least(32, rows.entries - k);
        for (int64_t r = 0; r < ROWS; ++r) {
            const float* x = rows.x + r * rows.stride + k;
            float own[32] = {};
            if (here < 32 || rows.quantum != nullptr) {
                std::memcpy(own, x, static_cast<size_t>(here) * sizeof(float));
                x = own;
            }
            if (rows.quantum != nullptr) {
                for (float& value : own) value = value * rows.inverse[r] + TO_WHOLE - TO_WHOLE;
            }
            V::make_tables(x, tables + r * V::lanes, ROWS * V::lanes);
        }
    }

    // Add the products of `halves` half words of a few panels to VECTORS·V::lanes sums of each row. Prefetch those of
    // the next tile, which are `ahead` words further on.
    template <int VECTORS>
    static void tile(const float* tables, const uint64_t* const* panels, int64_t halves, int64_t ahead, float* sums,
                     int64_t stride) {
        Vector sum[ROWS][VECTORS];
        unrolled<ROWS>([&](auto r) ALWAYS_INLINE {
            unrolled<VECTORS>([&](auto v) ALWAYS_INLINE { sum[r][v] = V::load(sums + r * stride + v * V::lanes); });
        });
        for (int64_t half = 0; half < halves; ++half, tables += TABLES) {
            typename V::Bits bits[VECTORS];
            unrolled<VECTORS>([&](auto v) ALWAYS_INLINE {
                __builtin_prefetch(panels[v * PANELS + half % PANELS] + half / 2 * PANEL + ahead);
                bits[v] = V::load_bits(panels + v * PANELS, half);
            });
            unrolled<V::groups>([&](auto g) ALWAYS_INLINE {
                unrolled<ROWS>([&](auto r) ALWAYS_INLINE {
                    const Vector table = V::load(tables + (g * ROWS + r) * V::lanes);
                    unrolled<VECTORS>([&](auto v) ALWAYS_INLINE {
                        sum[r][v] = V::add_entries(sum[r][v], table, bits[v]);
                    });
                });
                unrolled<VECTORS>([&](auto v) ALWAYS_INLINE { bits[v] = V::next(bits[v]); });
            });
        }
        unrolled<ROWS>([&](auto r) ALWAYS_INLINE {
            unrolled<VECTORS>([&](auto v) ALWAYS_INLINE { V::store(sums + r * stride + v * V::lanes, sum[r][v]); });
        });
    }

    // Add the products of half words, from word j on, of all panels. The last panel stands for those beyond it.
    static void add(const float* tables, const FloatOutputs& o, int64_t width, int64_t j, int64_t halves, float* sums,
                    int64_t stride) {
        const int64_t ahead = V::vectors * PANELS * width * PANEL;
        for (int64_t panel = o.first; panel < o.last;) {
            const bool is_whole = panel + V::vectors * PANELS <= o.last;
            const int64_t count = (is_whole ? V::vectors : 1) * PANELS;
            const uint64_t* panels[V::vectors * PANELS];
            for (int64_t i = 0; i < count; ++i) {
                panels[i] = o.panels + (least(panel + i, o.last - 1) * width + j) * PANEL;
            }
            float* const here = sums + (panel - o.first) * PANEL;
            is_whole ? tile<V::vectors>(tables, panels, halves, ahead, here, stride)
                     : tile<1>(tables, panels, halves, ahead, here, stride);
            panel += count;
        }
    }

    static void put(const float* sums, const FloatRows& rows, const FloatOutputs& o, int64_t stride) {
        const int64_t first = o.first * PANEL, count = least(o.n, o.last * PANEL) - first;
        const Affine& a = o.affine;
        for (int64_t r = 0; r < ROWS; ++r, sums += stride) {
            float* const y = o.y + r * o.stride + first;
            const float quantum = rows.quantum == nullptr ? 1.0f : rows.quantum[r];
            const float scale = a.scales == 1 ? a.scale[0] : 1.0f;
            for (int64_t n = 0; n < count; ++n) y[n] = sums[n] * quantum * scale;
            for (int64_t n = 0; n < count && a.scales > 1; ++n) y[n] *= a.scale[first + n];
            for (int64_t n = 0; n < count && a.bias != nullptr; ++n) y[n] += a.bias[first + n];
        }
    }

    static void multiply(const FloatRows& rows, const FloatOutputs& o) {
        const int64_t width = words_of(rows.entries), stride = (o.last - o.first + PANELS) * PANEL;
        const int64_t at_once = least(WORDS, width);
        auto* const tables = static_cast<float*>(scratch<V>(at_once * 2 * TABLES * sizeof(float)));
        auto* const sums = static_cast<float*>(scratch<float>(ROWS * stride * sizeof(float)));
        std::memset(sums, 0, static_cast<size_t>(ROWS * stride) * sizeof(float));
        for (int64_t j = 0; j < width; j += at_once) {
            const int64_t halves = least(2 * at_once, (rows.entries - j * 64 + 31) / 32);
            for (int64_t i = 0; i < halves; ++i) fill(rows, j * 64 + i * 32, tables + i * TABLES);
            add(tables, o, width, j, halves, sums, stride);
        }
        put(sums, rows, o, stride);
    }
};

// Multiply all rows, ROWS at a time, then the rest with fewer.
template <class V, int ROWS = V::rows>
void multiply_by_register_tables(const FloatRows& rows, const FloatOutputs& outputs) {
    int64_t row = 0;
    for (; row + ROWS <= rows.count; row += ROWS) {
        RegisterTables<V, ROWS>::multiply(from_row(rows, row), from_row(outputs, row));
    }
    if constexpr (ROWS > 1) {
        if (row < rows.count) multiply_by_register_tables<V, ROWS - 1>(from_row(rows, row), from_row(outputs, row));
    }
}

}  // namespace
}  // namespace proxconnect
