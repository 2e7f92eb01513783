// Scale and shift the numbers of a tile of sums, and apply the epilogue steps.
//
// V has: `outputs`, the floats of a vector, and `fma`, which rounds once. Numbers has of(row, c): V::outputs numbers
// from output c on.
#pragma once

#include "epilogue/steps.hpp"
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
        block.fill([&](int r, int part) {
            return numbers.of(row + r, c + part * V::outputs) * block.of_channels(then.output.scale, part) +
                   block.of_channels(then.output.bias, part);
        });
        int64_t at[ROWS];
        for (int r = 0; r < ROWS; ++r) at[r] = (then.first + row + r) * then.channels + channel + c;
        finish(block, then, at, count - c);
    }
}

// The same for at most one step, an affine: all operands stay in registers.
template <class V, class Numbers>
void put_affine(const Numbers& numbers, int64_t rows, int64_t channel, int64_t count, const Outputs& then) {
    for (int64_t c = 0; c < count; c += V::outputs) {
        const auto of_channels = [&](const float* values) { return loaded<Floats<V>>(values + channel + c); };
        const Floats<V> scale = of_channels(then.output.scale), bias = of_channels(then.output.bias);
        const bool has_step = then.step_count > 0;
        const Floats<V> a = has_step ? of_channels(then.steps->a) : scale;
        const Floats<V> b = has_step ? of_channels(then.steps->b) : bias;
        float* y = then.y + then.first * then.channels + channel + c;
        for (int64_t r = 0; r < rows; ++r, y += then.channels) {
            const Floats<V> v = numbers.of(r, c) * scale + bias;
            store_part(has_step ? V::fma(v, a, b) : v, count - c, y);
        }
    }
}

template <class V, int PARTS, int ROWS = 4, class Numbers>
void put_finished(const Numbers& numbers, int64_t rows, int64_t channel, int64_t count, const Outputs& then) {
    if (then.step_count == 0 || (then.step_count == 1 && then.steps->kind == AFFINE)) {
        return put_affine<V>(numbers, rows, channel, count, then);
    }
    int64_t r = 0;
    for (; r + ROWS <= rows; r += ROWS) put_rows<V, ROWS, PARTS>(numbers, r, channel, count, then);
    for (; r < rows; ++r) put_rows<V, 1, PARTS>(numbers, r, channel, count, then);
}

}  // namespace
}  // namespace proxconnect
