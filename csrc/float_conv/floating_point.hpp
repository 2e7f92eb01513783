// Float convolutions by multiply-adds: the image is stored as it is, channels last and with its border.
#pragma once

#include "epilogue/fused_images.hpp"
#include "float_conv/float_image.hpp"

namespace proxconnect {
namespace {

struct FloatingPoint {
    static constexpr int64_t GRAIN = BLOCK;

    const Kernels& kernels;
    const Geometry& g;
    const float* panels;
    FloatImage image{g};
    Patches patches{image.image};
    const uint8_t* bytes = nullptr;

    bool take(const float* x, int32_t threads) {
        bytes = image.is_laid_out() ? reinterpret_cast<const uint8_t*>(x) : image.copied(x, threads);
        return true;
    }

    void run(int64_t begin, int64_t end, Outputs here) const {
        const int64_t groups = ceil_div(end - begin, MOST_PATCHES), size = ceil_div(end - begin, most(groups, 1));
        const int64_t width = g.out_size[1], apart = g.stride[1] * image.in_bytes.channels;
        const int64_t entries = g.kernel[0] * g.kernel[1] * g.channels;
        const uint8_t* begins[MOST_PATCHES];
        int64_t i = begin / width, j = begin % width;
        for (int64_t pixel = begin; pixel < end; pixel += size) {
            const int64_t count = least(size, end - pixel);
            for (int64_t p = 0; p < count; ++p) {
                begins[p] = bytes + i * g.stride[0] * image.image.row + j * apart;
                if (++j == width) ++i, j = 0;
            }
            kernels.multiply_floats({begins, count, patches.first(), patches.steps(), entries}, panels, here);
            here.first += count;
        }
    }
};

}  // namespace
}  // namespace proxconnect
