// Many rows at a time. An entry of a table is a vector with a lane for each row, so that one addition serves four
// entries of all rows. Tables lie in memory, where any machine can look entries up.
//
// V has vectors of its width: Floats, of float, and Halves, of uint16_t.
#pragma once

#include <type_traits>

#include "float_sign/group_scales.hpp"
#include "isa/four_floats.hpp"

namespace proxconnect {
namespace {

constexpr int64_t TABLE_BYTES = 1 << 15;  // at once, which leaves room in the first cache
constexpr int64_t PANELS_AT_ONCE = 128;   // whose sums stay in the second

// Floats without rounding.
template <class V>
struct Exact {
    using Value = float;
    using Vector = typename V::Floats;
    using Sum = float;
    static constexpr int64_t lanes = sizeof(Vector) / sizeof(Value), longest = INT64_MAX;
    static constexpr bool in_groups = false;

    template <int ROWS>
    static void convert(const float (&from)[4][ROWS], const float*, float (&to)[4][ROWS]) {
        std::memcpy(to, from, sizeof from);
    }

    static void add(const Vector& sums, float, float* to) { *reinterpret_cast<Vector*>(to) += sums; }
    static FourFloats values(const float* sums) { return loaded<FourFloats>(sums); }
};

// Whole numbers within ±127. 16 bits hold the sum of 256.
template <class V>
struct Rounded {
    using Value = uint16_t;
    using Vector = typename V::Halves;
    using Sum = int32_t;
    static constexpr int64_t lanes = sizeof(Vector) / sizeof(Value), longest = 256;
    static constexpr bool in_groups = false;

    template <int ROWS>
    static void convert(const float (&from)[4][ROWS], const float* inverse, uint16_t (&to)[4][ROWS]) {
        for (int k = 0; k < 4; ++k) {
            for (int r = 0; r < ROWS; ++r) {
                const float shifted = from[k][r] * inverse[r] + TO_WHOLE;
                uint32_t bits;
                std::memcpy(&bits, &shifted, sizeof bits);
                to[k][r] = static_cast<uint16_t>(bits);
            }
        }
    }

    static void add(const Vector& sums, float, int32_t* to) {
        int16_t some[lanes];
        std::memcpy(some, &sums, sizeof sums);
        for (int i = 0; i < lanes; ++i) to[i] += some[i];
    }

    static FourFloats values(const int32_t* sums) {
        return __builtin_convertvector(loaded<FourInts>(sums), FourFloats);
    }
};

// Floats, exact or rounded, whose sums of each group of entries are multiplied by their scale.
template <class V, class E>
struct InGroups : E {
    using Instructions = V;
    using Sum = float;
    static constexpr bool in_groups = true;

    static void add(const typename E::Vector& sums, float scale, float* to) {
        typename E::Value some[E::lanes];
        std::memcpy(some, &sums, sizeof sums);
        using Number = std::conditional_t<std::is_same_v<typename E::Value, float>, float, int16_t>;
        for (int i = 0; i < E::lanes; ++i) to[i] += static_cast<float>(static_cast<Number>(some[i])) * scale;
    }

    static FourFloats values(const float* sums) { return loaded<FourFloats>(sums); }
};

// The tables of a block of rows, and the sums of its outputs.
template <class E, int VECTORS>
struct RowTables {
    using Value = typename E::Value;
    using Vector = typename E::Vector;
    static constexpr int64_t ROWS = E::lanes * VECTORS, ENTRY = ROWS, TABLE = 16 * ENTRY;
    static constexpr int64_t GROUPS = least(TABLE_BYTES / (TABLE * sizeof(Value)) / 16 * 16, E::longest / 4);
    static_assert(GROUPS >= 16 && GROUPS % 16 == 0, "a word has 16 groups of four");

    // Gather four entries of every row, from k on; 0 beyond the last entry. Rows beyond the last have any value.
    static void gather(const FloatRows& rows, int64_t k, float (&four)[4][ROWS]) {
        const int64_t left = rows.entries - k;
        for (int64_t r = 0; r < ROWS; r += 4) {
            FourFloats v[4];
            for (int64_t i = 0; i < 4; ++i) {
                const float* const row = rows.x + least(r + i, rows.count - 1) * rows.stride + k;
                if (left >= 4) {
                    v[i] = loaded<FourFloats>(row);
                } else {
                    v[i] = FourFloats{row[0], left > 1 ? row[1] : 0.0f, left > 2 ? row[2] : 0.0f, 0.0f};
                }
            }
            transpose(v);
            for (int64_t i = 0; i < 4; ++i) std::memcpy(&four[i][r], &v[i], sizeof v[i]);
        }
    }

    static void fill(const float (&four)[4][ROWS], const float* inverse, Value* table) {
        alignas(64) Value x[4][ROWS];
        E::convert(four, inverse, x);
        for (int64_t lane = 0; lane < ROWS; lane += E::lanes) {
            const auto at = [&](int i) { return *reinterpret_cast<const Vector*>(&x[i][lane]); };
            const Vector a = at(0), b = at(1), c = at(2), d = at(3);
            const Vector low[4] = {-a - b, a - b, b - a, a + b}, high[4] = {-c - d, c - d, d - c, c + d};
#pragma GCC unroll 16
            for (int e = 0; e < 16; ++e) {
                *reinterpret_cast<Vector*>(table + e * ENTRY + lane) = low[e % 4] + high[e / 4];
            }
        }
    }

    // The place of a group's table among a word's sixteen: i for the lower half of byte i, 8 + i for the upper.
    static int64_t place(int64_t group) { return group / 16 * 16 + group % 2 * 8 + group % 16 / 2; }

    // Add the entries whose numbers, times 16, are at `numbers`, one for each table. E may multiply by the scale.
    static void look_up(const Value* tables, const uint8_t* numbers, int64_t groups, float scale,
                        typename E::Sum* to) {
        constexpr int64_t SCALE = ENTRY * sizeof(Value) / 16;
        Vector sums[2][VECTORS] = {};
        const char* table = reinterpret_cast<const char*>(tables);
        const auto add = [&](int64_t at, int way) {
            const char* const entry = table + at * TABLE * sizeof(Value) + numbers[at] * SCALE;
#pragma GCC unroll 8
            for (int v = 0; v < VECTORS; ++v) sums[way][v] += reinterpret_cast<const Vector*>(entry)[v];
        };
        for (; groups >= 16; groups -= 16, numbers += 16, table += 16 * TABLE * sizeof(Value)) {
#pragma GCC unroll 16
            for (int at = 0; at < 16; ++at) add(at, at % 2);
        }
        for (int64_t g = 0; g < groups; ++g) add(place(g), 0);
#pragma GCC unroll 8
        for (int v = 0; v < VECTORS; ++v) E::add(sums[0][v] + sums[1][v], scale, to + v * E::lanes);
    }

    // Add rows [8·panel, 8·panel + 8) of the weight, from one of their words on, with the scale of each.
    static void add_panel(const Value* tables, int64_t groups, const uint64_t* words, const float (&scales)[PANEL],
                          typename E::Sum* to) {
        constexpr uint64_t HIGH = 0xf0f0f0f0f0f0f0f0u;
        const int64_t width = (groups + 15) / 16;
        uint64_t numbers[PANEL][2 * GROUPS / 16];
        for (int64_t j = 0; j < width; ++j) {
            for (int64_t i = 0; i < PANEL; ++i) {
                const uint64_t word = words[j * PANEL + i];
                numbers[i][2 * j] = (word << 4) & HIGH, numbers[i][2 * j + 1] = word & HIGH;
            }
        }
        for (int64_t i = 0; i < PANEL; ++i) {
            look_up(tables, reinterpret_cast<const uint8_t*>(numbers[i]), groups, scales[i], to + i * ROWS);
        }
    }

    // Write outputs [n, n + HERE) of every row. HERE is at most 4.
    template <int HERE>
    static void put(const typename E::Sum* sums, const FloatRows& rows, const FloatOutputs& o, int64_t n) {
        const FourFloats scale = loaded<FourFloats>(o.then.output.scale + o.channel + n);
        const FourFloats bias = loaded<FourFloats>(o.then.output.bias + o.channel + n);
        const int64_t count = least(ROWS, rows.count), stride = o.then.channels;
        float* const to = row_of(o, 0) + n;
        for (int64_t row = 0; row < count; row += 4) {
            FourFloats v[4];
            for (int64_t i = 0; i < 4; ++i) v[i] = E::values(sums + i * ROWS + row);
            transpose(v);
            for (int64_t r = row; r < least(row + 4, count); ++r) {
                FourFloats y = v[r - row];
                if (rows.quantum != nullptr) y *= rows.quantum[r];
                y = y * scale + bias;
                std::memcpy(to + r * stride, &y, HERE * sizeof(float));
            }
        }
    }

    static void put_all(const typename E::Sum* sums, const FloatRows& rows, const FloatOutputs& o, int64_t first,
                        int64_t last) {
        int64_t n = first;
        for (; n + 4 <= last; n += 4) put<4>(sums + (n - first) * ROWS, rows, o, n);
        sums += (n - first) * ROWS;
        with_constant<3>(last - n, [&](auto count) { put<count>(sums, rows, o, n); });
    }

    static void multiply(const FloatRows& rows, const FloatOutputs& o) {
        auto* const tables = scratch<Value, RowTables>(GROUPS * TABLE);
        auto* const sums = scratch<typename E::Sum>(PANELS_AT_ONCE * PANEL * ROWS);
        const int64_t width = words_of(rows.entries);
        float inverse[ROWS] = {}, entries[GROUPS][4][ROWS];
        if (rows.quantum != nullptr) std::memcpy(inverse, rows.inverse, least(ROWS, rows.count) * sizeof(float));
        for (int64_t first = o.first; first < o.last; first += PANELS_AT_ONCE) {
            const int64_t panels = least(PANELS_AT_ONCE, o.last - first);
            std::memset(sums, 0, panels * PANEL * ROWS * sizeof(typename E::Sum));
            const int64_t shared = o.then.output.group == 0 ? rows.entries : o.then.output.group;
            for (int64_t k = 0, next; k < rows.entries; k = next) {
                next = least(k + 4 * GROUPS, (k / shared + 1) * shared);
                const int64_t groups = (next - k + 3) / 4;
                const GroupScales of_group(o.then.output, rows.entries, first * PANEL, k / shared);
                for (int64_t g = 0; g < groups; ++g) gather(rows, k + 4 * g, entries[g]);
                for (int64_t g = 0; g < groups; ++g) fill(entries[g], inverse, tables + place(g) * TABLE);
                for (int64_t p = 0; p < panels; ++p) {
                    const uint64_t* const words = o.panels + ((first + p) * width + k / 64) * PANEL;
                    float scales[PANEL] = {};
                    if constexpr (E::in_groups) of_group.put<typename E::Instructions>(p * PANEL, scales);
                    add_panel(tables, groups, words, scales, sums + p * PANEL * ROWS);
                }
            }
            put_all(sums, rows, o, first * PANEL, least(o.n, (first + panels) * PANEL));
        }
    }
};

// Multiply all rows, in blocks of a cache line of rows, or of a vector if few are left.
template <class E>
void multiply_blocks(const FloatRows& rows, const FloatOutputs& outputs) {
    constexpr int VECTORS = 64 / sizeof(typename E::Vector);
    for (int64_t row = 0; row < rows.count;) {
        const bool is_few = rows.count - row <= VECTORS * E::lanes / 2;
        is_few ? RowTables<E, 1>::multiply(from_row(rows, row), from_row(outputs, row))
               : RowTables<E, VECTORS>::multiply(from_row(rows, row), from_row(outputs, row));
        row += (is_few ? 1 : VECTORS) * E::lanes;
    }
}

// The same for entries that are exact or rounded, with scales of groups or without.
template <class V>
void multiply_by_row_tables(const FloatRows& rows, const FloatOutputs& outputs) {
    const bool in_groups = outputs.then.output.group != 0;
    const auto exact = in_groups ? multiply_blocks<InGroups<V, Exact<V>>> : multiply_blocks<Exact<V>>;
    const auto rounded = in_groups ? multiply_blocks<InGroups<V, Rounded<V>>> : multiply_blocks<Rounded<V>>;
    (rows.rounds ? rounded : exact)(rows, outputs);
}

}  // namespace
}  // namespace proxconnect
