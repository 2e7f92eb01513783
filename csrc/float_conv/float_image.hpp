// Images of floats, channels last and with their border.
#pragma once

#include "float_conv/floats.hpp"
#include "int8/image.hpp"
#include "isa/four_floats.hpp"
#include "runtime/scratch.hpp"

namespace proxconnect {
namespace {

// Return the layout of an image of bytes, with this many for each number.
inline Geometry of_bytes(Geometry g, int64_t bytes) {
    g.channels *= bytes;
    return g;
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

inline void put_planes(const float* x, int64_t channels, int64_t apart, int64_t count, float* to) {
    for (int64_t c = (channels - 1) / 4 * 4; c >= 0; c -= 4) {
        put_four_planes(x + c * apart, least(4, channels - c), apart, count, channels, to + c);
    }
}

struct FloatImage {
    const Geometry& g;
    Geometry in_bytes = of_bytes(g, FLOAT_BYTES);
    ByteImage image{in_bytes};

    // Return the image at x, in memory of this thread.
    const uint8_t* copied(const float* x, int32_t threads) const {
        auto* const to = static_cast<uint8_t*>(scratch<FloatImage>(image.size));
        put_image(image, x, 0, threads, to, [&](const float* row, uint8_t* place) {
            put_row(row, reinterpret_cast<float*>(place));
        });
        return to;
    }

    bool is_laid_out() const {
        const bool is_dense = g.pixel_stride == g.channels && g.row_stride == g.size[1] * g.channels;
        return g.channel_stride == 1 && is_dense && g.padding[0] == 0 && g.padding[1] == 0;
    }

  private:
    void put_row(const float* from, float* to) const {
        if (g.pixel_stride == 1 && g.channel_stride != 1) {
            return put_planes(from, g.channels, g.channel_stride, g.size[1], to);
        }
        for_pieces(g, from, [&](const float* piece, int64_t count) {
            std::memcpy(to, piece, static_cast<size_t>(count) * sizeof(float));
            to += count;
        });
    }
};

}  // namespace
}  // namespace proxconnect
