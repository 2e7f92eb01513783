// Scale and shift the numbers of a tile of sums, and apply the epilogue steps.
//
// V has: `outputs`, the floats of a vector, and `fma`, which rounds once. Numbers has of(row, c): V::outputs numbers
// from output c on.
#pragma once

#include "epilogue/steps.hpp"
#include "isa/unrolled.hpp"
#include "runtime/sizes.hpp"

namespace proxconnect {
namespace {

// Write outputs of ROWS rows from `row` on, from output `channel` on, PARTS vectors at a time.
template <class V, int ROWS, int PARTS, class Numbers>
inline void put_rows(const Numbers& numbers, int64_t row, int64_t channel, int64_t count, const Outputs& then) {
    constexpr int SIZE = PARTS * V::outputs;
    for (int64_t c = 0; c < count; c += SIZE) {
        Block<V, ROWS, SIZE> block;
        block.channel = channel + c;
        block.fill([&](int r, int part) ALWAYS_INLINE {
            return numbers.of(row + r, c + part * V::outputs) * block.of_channels(then.output.scale, part) +
                   block.of_channels(then.output.bias, part);
        });
        int64_t at[ROWS];
        for (int r = 0; r < ROWS; ++r) at[r] = (then.first + row + r) * then.channels + channel + c;
        finish(block, then, at, count - c);
    }
}

// The same for at most one step, an affine, and all rows: operands stay in registers. If `count` is a constant, no
// output is tested for being beyond the last.
template <class V, int PARTS, class Numbers, class Count>
void put_affine(const Numbers& numbers, int64_t rows, int64_t c, int64_t channel, Count count, const Outputs& then) {
    const bool has_step = then.step_count > 0;
    Floats<V> scale[PARTS], bias[PARTS], a[PARTS], b[PARTS];
    unrolled<PARTS>([&](auto part) ALWAYS_INLINE {
        const auto load = [&](const float* from) { return loaded<Floats<V>>(from + channel + part * V::outputs); };
        scale[part] = load(then.output.scale), bias[part] = load(then.output.bias);
        a[part] = load(has_step ? then.steps->a : then.output.scale);
        b[part] = load(has_step ? then.steps->b : then.output.bias);
    });
    const auto put = [&](const auto& changed) ALWAYS_INLINE {
        float* y = then.y + then.first * then.channels + channel;
        for (int64_t r = 0, stride = then.channels; r < rows; ++r, y += stride) {
            unrolled<PARTS>([&](auto part) ALWAYS_INLINE {
                constexpr int64_t at = part * V::outputs;
                const Floats<V> v = numbers.of(r, c + at) * scale[part] + bias[part];
                if (at < count) store_part(changed(v, part), count - at, y + at);
            });
        }
    };
    if (has_step) put([&](Floats<V> v, auto part) ALWAYS_INLINE { return V::fma(v, a[part], b[part]); });
    else put([](Floats<V> v, auto) ALWAYS_INLINE { return v; });
}

template <class V, int PARTS, int ROWS = 4, class Numbers>
void put_finished(const Numbers& numbers, int64_t rows, int64_t channel, int64_t count, const Outputs& then) {
    if (then.step_count == 0 || (then.step_count == 1 && then.steps->kind == AFFINE)) {
        constexpr int WIDE = 4;  // vectors; narrower columns of wide outputs displace each other in the first cache
        constexpr std::integral_constant<int64_t, WIDE * V::outputs> whole;
        for (int64_t c = 0; c < count; c += whole) {
            if (count - c >= whole) put_affine<V, WIDE>(numbers, rows, c, channel + c, whole, then);
            else put_affine<V, WIDE>(numbers, rows, c, channel + c, count - c, then);
        }
        return;
    }
    int64_t r = 0;
    for (; r + ROWS <= rows; r += ROWS) put_rows<V, ROWS, PARTS>(numbers, r, channel, count, then);
    for (; r < rows; ++r) put_rows<V, 1, PARTS>(numbers, r, channel, count, then);
}

}  // namespace
}  // namespace proxconnect
