// Float convolutions by multiply-adds: the image is stored as it is, channels last and with its border.
#pragma once

#include "epilogue/fused_images.hpp"
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

struct FloatingPoint {
    static constexpr int64_t GRAIN = BLOCK;

    const Kernels& kernels;
    const Geometry& g;
    const float* panels;
    const Window* pool;
    const Outputs& then;
    Geometry in_bytes = of_bytes(g, FLOAT_BYTES);
    ByteImage image{in_bytes};
    Patches patches{image};
    const uint8_t* bytes = nullptr;

    struct Hold {
        explicit Hold(const FloatingPoint&) {}
    };

    bool take(const float* x, int32_t threads) {
        if (is_laid_out()) {
            bytes = reinterpret_cast<const uint8_t*>(x);
            return true;
        }
        auto* const to = static_cast<uint8_t*>(scratch<FloatingPoint>(image.size));
        put_image(image, x, 0, threads, to, [&](const float* row, uint8_t* place) {
            put_row(row, reinterpret_cast<float*>(place));
        });
        bytes = to;
        return true;
    }

    void run(int64_t begin, int64_t end, Outputs here) const {
        const int64_t groups = ceil_div(end - begin, MOST_PATCHES), size = ceil_div(end - begin, most(groups, 1));
        const int64_t width = g.out_size[1], apart = g.stride[1] * in_bytes.channels;
        const int64_t entries = g.kernel[0] * g.kernel[1] * g.channels;
        const uint8_t* begins[MOST_PATCHES];
        int64_t i = begin / width, j = begin % width;
        for (int64_t pixel = begin; pixel < end; pixel += size) {
            const int64_t count = least(size, end - pixel);
            for (int64_t p = 0; p < count; ++p) {
                begins[p] = bytes + i * g.stride[0] * image.row + j * apart;
                if (++j == width) ++i, j = 0;
            }
            kernels.multiply_floats({begins, count, patches.first(), patches.steps(), entries}, panels, here);
            here.first += count;
        }
    }

    void run_pooled(int64_t begin, int64_t end, float* y) const {
        pool_outputs(*this, kernels, g, *pool, begin, end, then, y);
    }

  private:
    bool is_laid_out() const {
        const bool is_dense = g.pixel_stride == g.channels && g.row_stride == g.size[1] * g.channels;
        return g.channel_stride == 1 && is_dense && g.padding[0] == 0 && g.padding[1] == 0;
    }

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
