// Means over all pixels of an image, for each channel.
#pragma once

#include "isa/vectors.hpp"

namespace proxconnect {
namespace {

constexpr int64_t MEANS_AT_ONCE = 64;  // channels

// Average MEANS_AT_ONCE channels in torch's order: up to 16 pixels in a sum, 16 such sums in the next, and so on.
template <class V>
void pixel_means(const float* x, int64_t pixels, int64_t channels, float* y) {
    constexpr int parts = MEANS_AT_ONCE / V::outputs, levels = 4, fan = 16;
    Floats<V> sums[levels][parts] = {};
    for (int64_t i = 0; i < pixels; ++i, x += channels) {
        for (int part = 0; part < parts; ++part) sums[0][part] += loaded<Floats<V>>(x + part * V::outputs);
        for (int64_t level = 1, count = fan; level < levels && (i + 1) % count == 0; ++level, count *= fan) {
            for (int part = 0; part < parts; ++part) {
                sums[level][part] += sums[level - 1][part];
                sums[level - 1][part] = Floats<V>{};
            }
        }
    }
    for (int part = 0; part < parts; ++part) {
        const Floats<V> total = sums[0][part] + sums[1][part] + sums[2][part] + sums[3][part];
        store_part(total / static_cast<float>(pixels), V::outputs, y + part * V::outputs);
    }
}

}  // namespace
}  // namespace proxconnect
