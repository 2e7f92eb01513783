// The largest pixels under a window, for each channel. NaN if one is NaN.
#pragma once

#include "isa/vectors.hpp"
#include "proxconnect.h"

namespace proxconnect {
namespace {

// Return the larger floats of V::outputs channels; the first if both are equal.
template <class V>
inline Floats<V> larger(Floats<V> a, Floats<V> b) {
    return ((b > a) | (b != b)) ? b : a;
}

// Return the largest of V::outputs channels under one window. load(pixel) returns those of a pixel.
template <class V, class Load>
inline Floats<V> largest(const float* const* rows, int64_t count, int64_t first, int64_t last, int64_t channels,
                         const Load& load) {
    Floats<V> most = load(rows[0] + first * channels);
    for (int64_t i = 0; i < count; ++i) {
        for (int64_t x = first; x < last; ++x) most = larger<V>(most, load(rows[i] + x * channels));
    }
    return most;
}

// Pool one row of output pixels, whose windows cover `count` rows of `width` input pixels.
template <class V>
void pool_row(const float* const* rows, int64_t count, int64_t width, int64_t channels, const Window& window,
              int64_t out_width, float* y) {
    for (int64_t ox = 0; ox < out_width; ++ox, y += channels) {
        const int64_t left = ox * window.stride[1] - window.padding[1], right = left + window.kernel[1];
        const int64_t first = left < 0 ? 0 : left, last = right < width ? right : width;
        int64_t c = 0;
        for (; c + V::outputs <= channels; c += V::outputs) {
            const auto whole = [&](const float* pixel) { return loaded<Floats<V>>(pixel + c); };
            const Floats<V> most = largest<V>(rows, count, first, last, channels, whole);
            std::memcpy(y + c, &most, sizeof most);
        }
        if (c == channels) continue;
        const auto part = [&](const float* pixel) { return loaded_part<Floats<V>>(pixel + c, channels - c); };
        store_part(largest<V>(rows, count, first, last, channels, part), channels - c, y + c);
    }
}

}  // namespace
}  // namespace proxconnect
