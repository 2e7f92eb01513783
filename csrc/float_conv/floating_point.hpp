// Float convolutions by multiply-adds: the image is stored as it is, channels last and with its border.
#pragma once

#include "epilogue/fused_images.hpp"
#include "float_conv/floats.hpp"
#include "int8/image.hpp"
#include "runtime/scratch.hpp"

namespace proxconnect {
namespace {

// Return the layout of an image of bytes, with this many for each number.
inline Geometry of_bytes(Geometry g, int64_t bytes) {
    g.channels *= bytes;
    return g;
}

struct FloatingPoint {
    static constexpr int64_t GRAIN = BLOCK;

    const Kernels& kernels;
    const Geometry& g;
    const float* panels;
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
            put_channels_last(g, row, reinterpret_cast<float*>(place));
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

    bool run_pooled(int64_t, int64_t, float*) const { return false; }

  private:
    bool is_laid_out() const {
        const bool is_dense = g.pixel_stride == g.channels && g.row_stride == g.size[1] * g.channels;
        return g.channel_stride == 1 && is_dense && g.padding[0] == 0 && g.padding[1] == 0;
    }
};

}  // namespace
}  // namespace proxconnect
