// Epilogue steps on floats before they are written, a block at a time. The kind of each step is chosen once for all
// vectors of the block.
//
// V has: `fma`, of Floats<V>, which rounds once.
#pragma once

#include "epilogue/gelu.hpp"
#include "isa/kernels.hpp"
#include "isa/unrolled.hpp"
#include "isa/vectors.hpp"

namespace proxconnect {
namespace {

// SIZE floats of each of ROWS rows. The first belongs to channel `channel`. All functions are inlined and all loops are
// unrolled, so that the floats stay in registers from step to step.
template <class V, int ROWS, int SIZE>
struct Block {
    static constexpr int parts = SIZE / V::outputs;

    Floats<V> floats[ROWS][parts];
    int64_t channel;

    // Set each vector to value(row, part).
    template <class Value>
    ALWAYS_INLINE void fill(const Value& value) {
        unrolled<parts>([&](auto part) ALWAYS_INLINE {
            unrolled<ROWS>([&](auto r) ALWAYS_INLINE { floats[r][part] = value(r, part); });
        });
    }

    template <class Change>
    ALWAYS_INLINE void each(const Change& change) {
        fill([&](int r, int part) ALWAYS_INLINE { return change(floats[r][part], r, part); });
    }

    Floats<V> of_channels(const float* values, int part) const {
        return loaded<Floats<V>>(values + channel + part * V::outputs);
    }

    ALWAYS_INLINE void affine(const Step& step) {
        each([&](Floats<V> v, int, int part) ALWAYS_INLINE {
            return V::fma(v, of_channels(step.a, part), of_channels(step.b, part));
        });
    }

    ALWAYS_INLINE void clamp(const Step& step) {
        const Floats<V> low = step.low - Floats<V>{}, high = step.high - Floats<V>{};
        each([&](Floats<V> v, int, int) ALWAYS_INLINE {
            v = v < low ? low : v;
            return v > high ? high : v;
        });
    }

    ALWAYS_INLINE void slope(const Step& step) {
        each([&](Floats<V> v, int, int part) ALWAYS_INLINE { return v > 0.0f ? v : of_channels(step.a, part) * v; });
    }

    // A copy is changed: this loop is not unrolled, so it would keep `floats` in memory during the other steps, too.
    ALWAYS_INLINE void gelu() {
        Floats<V> copy[parts * ROWS];
        each([&](Floats<V> v, int r, int part) ALWAYS_INLINE { return copy[part * ROWS + r] = v; });
        for (Floats<V>& v : copy) v = proxconnect::gelu<V>(v);
        fill([&](int r, int part) ALWAYS_INLINE { return copy[part * ROWS + r]; });
    }

    ALWAYS_INLINE void add(const float* const (&others)[ROWS], int64_t count) {
        if (count >= SIZE) {
            return each([&](Floats<V> v, int r, int part) ALWAYS_INLINE {
                return v + loaded<Floats<V>>(others[r] + part * V::outputs);
            });
        }
        each([&](Floats<V> v, int r, int part) ALWAYS_INLINE {
            const int64_t at = part * V::outputs;
            return at < count ? v + loaded_part<Floats<V>>(others[r] + at, count - at) : v;
        });
    }

    ALWAYS_INLINE void store(float* const (&to)[ROWS], int64_t count) const {
        if (count >= SIZE) {
            unrolled<ROWS>([&](auto r) ALWAYS_INLINE {
                unrolled<parts>([&](auto part) ALWAYS_INLINE {
                    std::memcpy(to[r] + part * V::outputs, &floats[r][part], sizeof floats[r][part]);
                });
            });
            return;
        }
        unrolled<ROWS>([&](auto r) ALWAYS_INLINE {
            unrolled<parts>([&](auto part) ALWAYS_INLINE {
                constexpr int64_t at = part * V::outputs;
                if (at < count) store_part(floats[r][part], count - at, to[r] + at);
            });
        });
    }
};

// Apply all steps to the first `count` floats of each row, and write them at offset `at` of the outputs.
template <class V, int ROWS, int SIZE>
ALWAYS_INLINE inline void finish(Block<V, ROWS, SIZE>& block, const Outputs& outputs, const int64_t (&at)[ROWS],
                                 int64_t count) {
    const float* const* other = outputs.others;
    for (const Step* step = outputs.steps; step < outputs.steps + outputs.step_count; ++step) {
        switch (step->kind) {
            case AFFINE: block.affine(*step); break;
            case CLAMP: block.clamp(*step); break;
            case SLOPE: block.slope(*step); break;
            case GELU: block.gelu(); break;
            default:
                const float* others[ROWS];
                unrolled<ROWS>([&](auto r) ALWAYS_INLINE { others[r] = *other + at[r]; });
                block.add(others, count);
                ++other;
        }
    }
    float* to[ROWS];
    unrolled<ROWS>([&](auto r) ALWAYS_INLINE { to[r] = outputs.y + at[r]; });
    block.store(to, count);
}

// The same for `count` floats of x, at most SIZE, at offset `at` of the outputs.
template <class V, int SIZE>
inline void finish_block(const float* x, const Outputs& outputs, int64_t at, int64_t count) {
    Block<V, 1, SIZE> block;
    block.channel = at % outputs.channels;
    if (count == SIZE) {
        block.fill([&](int, int part) ALWAYS_INLINE { return loaded<Floats<V>>(x + part * V::outputs); });
    } else {
        block.fill([&](int, int part) ALWAYS_INLINE {
            const int64_t first = part * V::outputs;
            return first < count ? loaded_part<Floats<V>>(x + first, count - first) : Floats<V>{};
        });
    }
    finish<V>(block, outputs, {at}, count);
}

// Apply the steps to floats [begin, end) of rows that are laid out like the outputs.
template <class V>
void finish_floats(const float* x, const Outputs& outputs, int64_t begin, int64_t end) {
    constexpr int64_t SIZE = 64;
    int64_t at = begin;
    for (; at + SIZE <= end; at += SIZE) finish_block<V, SIZE>(x + at, outputs, at, SIZE);
    if (at < end) finish_block<V, SIZE>(x + at, outputs, at, end - at);
}

}  // namespace
}  // namespace proxconnect
