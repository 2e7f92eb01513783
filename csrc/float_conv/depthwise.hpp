// Depthwise convolutions of floats: a lane is a channel. The sums of a few pixels and vectors of channels stay in
// registers, and the epilogue steps follow there.
//
// V has: `outputs`, the floats of a vector, and `fma`, which rounds once. F has the `fma` of sums, which may round twice.
#pragma once

#include "epilogue/steps.hpp"
#include "isa/kernels.hpp"
#include "isa/unrolled.hpp"

namespace proxconnect {
namespace {

// Compute channels c to c + `count` of PIXELS pixels from `pixel` on. They fill PARTS vectors if `count` is a constant.
template <class V, class F, int PIXELS, int PARTS, class Count>
void depthwise_block(const DepthwisePixels& pixels, int64_t pixel, int64_t c, Count count, const Outputs& then) {
    const auto load = [&](const float* from) ALWAYS_INLINE {
        if constexpr (std::is_same_v<Count, int64_t>) return loaded_part<Floats<V>>(from, count);
        else return loaded<Floats<V>>(from);
    };
    Block<V, PIXELS, PARTS * V::outputs> block;
    block.channel = c;
    block.fill([](int, int) ALWAYS_INLINE { return Floats<V>{}; });
    const float* const x = pixels.x + pixel * pixels.apart + c;
    for (const Tap* tap = pixels.taps; tap < pixels.taps + pixels.tap_count; ++tap) {
        Floats<V> weight[PARTS];
        unrolled<PARTS>([&](auto part) ALWAYS_INLINE {
            weight[part] = loaded<Floats<V>>(tap->weight + c + part * V::outputs);
        });
        block.each([&](Floats<V> sum, int r, int part) ALWAYS_INLINE {
            return F::fma(load(x + tap->at + r * pixels.apart + part * V::outputs), weight[part], sum);
        });
    }
    block.each([&](Floats<V> sum, int, int part) ALWAYS_INLINE {
        return sum * block.of_channels(then.output.scale, part) + block.of_channels(then.output.bias, part);
    });
    int64_t at[PIXELS];
    unrolled<PIXELS>([&](auto r) ALWAYS_INLINE { at[r] = (then.first + pixel + r) * then.channels + c; });
    finish(block, then, at, count);
}

template <class V, class F, int PIXELS>
void depthwise_pixels(const DepthwisePixels& pixels, int64_t pixel, int64_t first, int64_t last, const Outputs& then) {
    constexpr std::integral_constant<int64_t, V::outputs> one;
    constexpr std::integral_constant<int64_t, 2 * V::outputs> two;
    int64_t c = first;
    for (; c + two <= last; c += two) depthwise_block<V, F, PIXELS, 2>(pixels, pixel, c, two, then);
    for (; c + one <= last; c += one) depthwise_block<V, F, PIXELS, 1>(pixels, pixel, c, one, then);
    if (c < last) depthwise_block<V, F, PIXELS, 1>(pixels, pixel, c, last - c, then);
}

// Compute channels [first, last). Pixel p becomes row then.first + p.
template <class V, class F>
void depthwise(const DepthwisePixels& pixels, int64_t first, int64_t last, const Outputs& then) {
    int64_t p = 0;
    for (; p + 4 <= pixels.count; p += 4) depthwise_pixels<V, F, 4>(pixels, p, first, last, then);
    for (; p + 2 <= pixels.count; p += 2) depthwise_pixels<V, F, 2>(pixels, p, first, last, then);
    for (; p < pixels.count; ++p) depthwise_pixels<V, F, 1>(pixels, p, first, last, then);
}

}  // namespace
}  // namespace proxconnect
