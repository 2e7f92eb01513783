// Depthwise float convolutions. Images with adjacent channels are read where they are: pixels at the border have fewer
// taps.
#pragma once

#include "binary/tap_range.hpp"
#include "epilogue/fused_images.hpp"
#include "float_conv/float_image.hpp"

namespace proxconnect {
namespace {

struct Depthwise {
    static constexpr int64_t GRAIN = BLOCK;
    static constexpr int64_t CHANNELS = 256;  // at once, whose weights stay in the first cache

    const Kernels& kernels;
    const Geometry& g;
    const float* weight;
    Geometry seen = g;  // the layout of `pixels`
    const float* pixels = nullptr;

    bool take(const float* x, int32_t threads) {
        pixels = x;
        if (g.channel_stride == 1) return true;
        const FloatImage image{g};
        pixels = reinterpret_cast<const float*>(image.copied(x, threads));
        seen.pixel_stride = g.channels, seen.row_stride = image.image.width * g.channels;
        for (int i = 0; i < 2; ++i) seen.size[i] = g.size[i] + 2 * g.padding[i], seen.padding[i] = 0;
        return true;
    }

    void run(int64_t begin, int64_t end, const Outputs& here) const {
        for (int64_t c = 0; c < g.channels; c += CHANNELS) {
            run_channels(begin, end, c, least(g.channels, c + CHANNELS), here);
        }
    }

  private:
    // Compute channels [c, beyond).
    void run_channels(int64_t begin, int64_t end, int64_t c, int64_t beyond, Outputs here) const {
        const int64_t width = g.out_size[1], first = here.first - begin;
        auto* const taps = scratch<Tap>(g.kernel[0] * g.kernel[1]);
        for (int64_t p = begin, count; p < end; p += count) {
            const int64_t i = p / width, j = p % width;
            count = least(least(end - p, width - j), equal_taps(j));
            here.first = first + p;
            const int64_t tap_count = put_taps(i, j, taps);
            kernels.depthwise({pixels, g.stride[1] * seen.pixel_stride, count, taps, tap_count}, c, beyond, here);
        }
    }

    // Return how many pixels of a row, from `column` on, read the same taps: those with all taps inside, or else one.
    int64_t equal_taps(int64_t column) const {
        const int64_t left = column * g.stride[1] - seen.padding[1], reach = (g.kernel[1] - 1) * g.dilation[1] + 1;
        if (left < 0 || left + reach > seen.size[1]) return 1;
        return (seen.size[1] - left - reach) / g.stride[1] + 1;
    }

    // Write the taps of an output pixel that lie within the border, and return their number.
    int64_t put_taps(int64_t row, int64_t column, Tap* to) const {
        const int64_t stride = ceil_div(g.channels, BLOCK) * BLOCK;
        TapRange inside;
        find_taps_inside(seen, 0, row, inside);
        find_taps_inside(seen, 1, column, inside);
        for (int64_t a = inside.first[0]; a < inside.last[0]; ++a) {
            const int64_t y = start_of(seen, 0, row) + a * g.dilation[0];
            for (int64_t b = inside.first[1]; b < inside.last[1]; ++b) {
                const int64_t x = start_of(seen, 1, column) + b * g.dilation[1];
                *to++ = {y * seen.row_stride + x * seen.pixel_stride, weight + (a * g.kernel[1] + b) * stride};
            }
        }
        return inside.count();
    }
};

}  // namespace
}  // namespace proxconnect
