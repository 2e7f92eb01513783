// The largest pixels under a window, for each channel. NaN if one is NaN.
#pragma once

#include "isa/unrolled.hpp"
#include "isa/vectors.hpp"
#include "proxconnect.h"
#include "runtime/sizes.hpp"

namespace proxconnect {
namespace {

// Return the larger floats of V::outputs channels; the first if both are equal.
template <class V>
inline Floats<V> larger(Floats<V> a, Floats<V> b) {
    return ((b > a) | (b != b)) ? b : a;
}

// The pixels under one window.
struct Windowed {
    const float* const* rows;
    int64_t count, first, last, channels;
};

// Find the largest of PARTS vectors of channels, whose chains of comparisons overlap. load(pixel, part) returns one of a
// pixel.
template <class V, int PARTS, class Load>
inline void find_largest(const Windowed& met, const Load& load, Floats<V> (&most)[PARTS]) {
    unrolled<PARTS>([&](auto part) ALWAYS_INLINE { most[part] = load(met.rows[0] + met.first * met.channels, part); });
    for (int64_t i = 0; i < met.count; ++i) {
        for (int64_t x = met.first; x < met.last; ++x) {
            const float* const pixel = met.rows[i] + x * met.channels;
            unrolled<PARTS>([&](auto part) ALWAYS_INLINE { most[part] = larger<V>(most[part], load(pixel, part)); });
        }
    }
}

// Write the largest of PARTS whole vectors of channels from c on.
template <class V, int PARTS>
inline void put_largest(const Windowed& met, int64_t c, float* y) {
    Floats<V> most[PARTS];
    find_largest<V>(met, [&](const float* pixel, int part) {
        return loaded<Floats<V>>(pixel + c + part * V::outputs);
    }, most);
    std::memcpy(y + c, most, sizeof most);
}

// Pool one row of output pixels, whose windows cover `count` rows of `width` input pixels.
template <class V>
void pool_row(const float* const* rows, int64_t count, int64_t width, int64_t channels, const Window& window,
              int64_t out_width, float* y) {
    constexpr int64_t PARTS = 4;
    for (int64_t ox = 0; ox < out_width; ++ox, y += channels) {
        const int64_t left = ox * window.stride[1] - window.padding[1], right = left + window.kernel[1];
        const Windowed met = {rows, count, most(left, 0), least(right, width), channels};
        int64_t c = 0;
        for (; c + PARTS * V::outputs <= channels; c += PARTS * V::outputs) put_largest<V, PARTS>(met, c, y);
        for (; c + V::outputs <= channels; c += V::outputs) put_largest<V, 1>(met, c, y);
        if (c == channels) continue;
        const auto part_of = [&](const float* pixel, int) { return loaded_part<Floats<V>>(pixel + c, channels - c); };
        Floats<V> last[1];
        find_largest<V>(met, part_of, last);
        store_part(last[0], channels - c, y + c);
    }
}

}  // namespace
}  // namespace proxconnect
