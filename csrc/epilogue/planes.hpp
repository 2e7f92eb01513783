// Images with planes, which kernels read and write channels last. Outputs are written for a band of pixels at a time,
// which then moves to the planes while it is in the cache.
#pragma once

#include "isa/four_floats.hpp"
#include "isa/kernels.hpp"
#include "runtime/scratch.hpp"
#include "runtime/sizes.hpp"

namespace proxconnect {
namespace {

// Return true if a patch is one pixel.
inline bool reads_pixels(const Geometry& g) {
    return g.kernel[0] * g.kernel[1] == 1 && g.padding[0] + g.padding[1] == 0;
}

// Leave out the pixels that a kernel of one pixel skips.
inline Geometry without_strides(Geometry g) {
    if (!reads_pixels(g)) return g;
    g.row_stride *= g.stride[0], g.pixel_stride *= g.stride[1];
    for (int i = 0; i < 2; ++i) g.size[i] = g.out_size[i], g.stride[i] = 1;
    return g;
}

// Call work(begin, end) for bands of output pixels whose bytes or planes fit a core's cache.
template <class Work>
void in_bands(const Geometry& g, int64_t begin, int64_t end, const Work& work) {
    constexpr int64_t PIXELS = 512;
    const int64_t band = ceil_div(PIXELS, g.out_size[1]) * g.out_size[1];
    for (int64_t first = begin; first < end; first += band) work(first, least(end, first + band));
}

// y[c][p] = x[p][c]. Channels of y are `plane` floats apart. A whole cache line of y is written at a time.
inline void put_planes(const float* x, int64_t pixels, int64_t channels, float* y, int64_t plane) {
    constexpr int64_t LINE = 16;
    for (int64_t first = 0; first < pixels; first += LINE, x += LINE * channels, y += LINE) {
        const int64_t count = least(LINE, pixels - first);
        int64_t c = 0;
        for (; count == LINE && c + 4 <= channels; c += 4) {
            FourFloats v[LINE / 4][4];
            for (int64_t p = 0; p < LINE; ++p) v[p / 4][p % 4] = loaded<FourFloats>(x + p * channels + c);
            for (auto& four : v) transpose(four);
            for (int64_t k = 0; k < LINE; ++k) std::memcpy(y + (c + k / 4) * plane + k % 4 * 4, &v[k % 4][k / 4], 16);
        }
        for (; c < channels; ++c) {
            for (int64_t p = 0; p < count; ++p) y[c * plane + p] = x[p * channels + c];
        }
    }
}

// Let write(to) write output pixels [first, last) of the image that begins at row outputs.first. Its pixel p becomes
// row to.first + p. If y has planes, move them there.
template <class Write>
void write_pixels(const Geometry& g, const Outputs& outputs, int64_t first, int64_t last, const Write& write) {
    if (!g.has_planes) return write(outputs);
    Outputs pixels = outputs;
    pixels.y = scratch<float, Outputs>((last - first) * g.out_channels), pixels.first = -first;
    write(pixels);
    const int64_t plane = g.out_size[0] * g.out_size[1];
    put_planes(pixels.y, last - first, g.out_channels, outputs.y + outputs.first * g.out_channels + first, plane);
}

// Call work(floats, count) for adjacent pieces of a row of pixels, in memory order.
template <class Work>
void for_pieces(const Geometry& g, const float* row, const Work& work) {
    if (g.channel_stride == 1 && g.pixel_stride == g.channels) return work(row, g.size[1] * g.channels);
    if (g.channel_stride == 1) {
        for (int64_t i = 0; i < g.size[1]; ++i) work(row + i * g.pixel_stride, g.channels);
    } else if (g.pixel_stride == 1) {
        for (int64_t c = 0; c < g.channels; ++c) work(row + c * g.channel_stride, g.size[1]);
    } else {
        for (int64_t i = 0; i < g.size[1]; ++i) {
            for (int64_t c = 0; c < g.channels; ++c) work(row + i * g.pixel_stride + c * g.channel_stride, 1);
        }
    }
}

// Write up to four planes, `apart` floats apart, as pixels of `channels` floats each. Vectors of four floats may reach
// into the next pixel, which is written later.
inline void put_four_planes(const float* x, int64_t planes, int64_t apart, int64_t count, int64_t channels, float* to) {
    int64_t i = 0;
    for (; i + 8 <= count; i += 4) {
        FourFloats v[4];
        for (int64_t k = 0; k < 4; ++k) v[k] = loaded<FourFloats>(x + i + least(k, planes - 1) * apart);
        transpose(v);
        for (int64_t k = 0; k < 4; ++k) std::memcpy(to + (i + k) * channels, &v[k], sizeof v[k]);
    }
    for (; i < count; ++i) {
        for (int64_t k = 0; k < planes; ++k) to[i * channels + k] = x[k * apart + i];
    }
}

inline void put_planes_last(const float* x, int64_t channels, int64_t apart, int64_t count, float* to) {
    for (int64_t c = (channels - 1) / 4 * 4; c >= 0; c -= 4) {
        put_four_planes(x + c * apart, least(4, channels - c), apart, count, channels, to + c);
    }
}

// Write a row of pixels, channels last.
inline void put_channels_last(const Geometry& g, const float* from, float* to) {
    if (g.channel_stride == 1) {
        return for_pieces(g, from, [&](const float* piece, int64_t count) {
            std::memcpy(to, piece, static_cast<size_t>(count) * sizeof(float));
            to += count;
        });
    }
    if (g.pixel_stride == 1) return put_planes_last(from, g.channels, g.channel_stride, g.size[1], to);
    for (int64_t p = 0; p < g.size[1]; ++p, from += g.pixel_stride) {
        for (int64_t c = 0; c < g.channels; ++c) *to++ = from[c * g.channel_stride];
    }
}

}  // namespace
}  // namespace proxconnect
