// Convolutions of signs, straight on packed images: no matrix of patches is made.
#pragma once

#include "products.hpp"

namespace proxconnect {
namespace {

constexpr int64_t BLOCK = 16;

// Up to 64 channels of BLOCK pixels that follow each other in memory, a word for each pixel; V::pack_block is this or
// better.
inline void pack_block(const float* from, int64_t channel_stride, int64_t channels, uint64_t* words, uint64_t* nan) {
    for (int64_t i = 0; i < BLOCK; ++i) words[i] = nan[i] = 0;
    for (int64_t c = 0; c < channels; ++c, from += channel_stride) {
        for (int64_t i = 0; i < BLOCK; ++i) words[i] |= static_cast<uint64_t>(from[i] >= 0.0f) << c;
        for (int64_t i = 0; i < BLOCK; ++i) nan[i] |= from[i] != from[i];
    }
}

// Up to 64 channels of a pixel, wherever they lie.
template <class V>
inline uint64_t pack_pixel(const float* from, int64_t channel_stride, int64_t channels, bool& has_nan) {
    if (channel_stride == 1 && channels == 64) return V::signs(from, has_nan);
    float gathered[64];
    for (int64_t c = 0; c < 64; ++c) gathered[c] = c < channels ? from[c * channel_stride] : -1.0f;
    return V::signs(gathered, has_nan);
}

// The signs of pixels [begin, end) of an image: words is (pixels, groups, width).
template <class V>
void pack_pixels(const float* image, const Geometry& g, int64_t begin, int64_t end, uint64_t* words, uint8_t* nan) {
    const int64_t inputs = g.channels / g.groups, width = (inputs + 63) / 64;
    std::memset(nan + begin * g.groups, 0, static_cast<size_t>((end - begin) * g.groups));
    for (int64_t k = 0; k < g.groups * width; ++k) {  // the k-th word of each pixel
        const int64_t group = k / width, start = k % width * 64, channels = least(64, inputs - start);
        const float* const from = image + (group * inputs + start) * g.channel_stride;
        int64_t pixel = begin;
        for (; g.pixel_stride == 1 && pixel + BLOCK <= end; pixel += BLOCK) {
            uint64_t packed[BLOCK], unknown[BLOCK];
            V::pack_block(from + pixel, g.channel_stride, channels, packed, unknown);
            for (int64_t i = 0; i < BLOCK; ++i) {
                words[(pixel + i) * g.groups * width + k] = packed[i];
                nan[(pixel + i) * g.groups + group] |= unknown[i] != 0;
            }
        }
        for (; pixel < end; ++pixel) {
            bool has_nan = false;
            words[pixel * g.groups * width + k] =
                pack_pixel<V>(from + pixel * g.pixel_stride, g.channel_stride, channels, has_nan);
            nan[pixel * g.groups + group] |= has_nan;
        }
    }
}

// What an output pixel of one group multiplies.
struct Taps {
    const uint64_t** inputs;  // of every tap, or of those within the image
    int64_t* places;
    int64_t taps;
    bool is_nan;
};

// Finds the taps of output pixel (row, column). Beyond the border they meet `beyond`, or where that is null, nothing.
inline void find_taps(const Geometry& g, const uint64_t* words, const uint8_t* nan, const uint64_t* beyond, int64_t width,
                      int64_t group, int64_t row, int64_t column, Taps& found) {
    found.taps = 0, found.is_nan = false;
    for (int64_t i = 0; i < g.kernel[0]; ++i) {
        const int64_t y = row * g.stride[0] - g.padding[0] + i * g.dilation[0];
        for (int64_t j = 0; j < g.kernel[1]; ++j) {
            const int64_t x = column * g.stride[1] - g.padding[1] + j * g.dilation[1];
            const bool is_inside = y >= 0 && y < g.size[0] && x >= 0 && x < g.size[1];
            if (!is_inside && beyond == nullptr) continue;
            const int64_t pixel = (y * g.size[1] + x) * g.groups + group;
            found.inputs[found.taps] = is_inside ? words + pixel * width : beyond;
            found.places[found.taps] = (i * g.kernel[1] + j) * width;
            found.is_nan |= is_inside && nan[pixel] != 0;
            ++found.taps;
        }
    }
}

// Output pixels [begin, end) of one image, (rows·columns, out channels).
template <class V>
void binary_conv(const uint64_t* words, const uint8_t* nan, const uint64_t* panels, const Geometry& g, const Output& output,
                 const uint64_t* beyond, const uint64_t** inputs, int64_t* places, float* y, int64_t begin, int64_t end) {
    const int64_t entries = g.channels / g.groups, width = (entries + 63) / 64, n = g.out_channels / g.groups;
    const int64_t taps = g.kernel[0] * g.kernel[1], per_group = (n + PANEL - 1) / PANEL * taps * width * PANEL;
    for (int64_t group = 0; group < g.groups; ++group) {
        Output mine = output;
        if (output.scale != nullptr && output.scales != 1) mine.scale += group * n;
        if (output.bias != nullptr) mine.bias += group * n;
        float* outputs[V::rows];
        uint8_t is_nan[V::rows];
        int64_t waiting = 0;
        const auto single = [&](int64_t r, int64_t count) {
            across<V, 1>({count, width, inputs + r * taps, places}, is_nan + r, panels + group * per_group, taps * width, n,
                         entries * count, mine, outputs + r);
        };
        for (int64_t pixel = begin; pixel < end; ++pixel) {
            Taps found = {inputs + waiting * taps, places, 0, false};
            find_taps(g, words, nan, beyond, width, group, pixel / g.out_size[1], pixel % g.out_size[1], found);
            outputs[waiting] = y + pixel * g.out_channels + group * n;
            is_nan[waiting] = found.is_nan;
            if (found.taps < taps) {
                single(waiting, found.taps);
                continue;
            }
            if (++waiting < V::rows) continue;
            across<V, V::rows>({taps, width, inputs, places}, is_nan, panels + group * per_group, taps * width, n,
                               entries * taps, mine, outputs);
            waiting = 0;
        }
        for (int64_t t = 0; t < taps; ++t) places[t] = t * width;
        for (int64_t r = 0; r < waiting; ++r) single(r, taps);
    }
}

}  // namespace
}  // namespace proxconnect
