// Means of the windows of images, before a convolution.
#pragma once

#include "int8/kernels.hpp"
#include "runtime/scratch.hpp"
#include "runtime/threads.hpp"

namespace proxconnect {
namespace {

// Means of the windows of one image at x, in memory of this thread. `from` is the layout of x.
struct Means {
    const Int8Kernels& kernels;
    const Geometry& from;
    const Window& w;

    const float* of(const float* x, int32_t threads) const {
        const int64_t row = w.out_size[1] * from.channels, size = w.out_size[0] * row;
        auto* const means = scratch<float, Means>(size);
        in_parallel(w.out_size[0], 1, threads, [&](int64_t begin, int64_t end) {
            for (int64_t i = begin; i < end; ++i) {
                for (int64_t j = 0; j < w.out_size[1]; ++j) put(x, i, j, means + i * row + j * from.channels);
            }
        });
        return means;
    }

  private:
    void put(const float* x, int64_t i, int64_t j, float* to) const {
        const int64_t top = i * w.stride[0], left = j * w.stride[1];
        MeanWindow met = {least(w.kernel[0], w.size[0] - top), least(w.kernel[1], w.size[1] - left), from.channels,
                          from.row_stride, from.pixel_stride};
        const float* const begin = x + top * from.row_stride + left * from.pixel_stride;
        if (from.channel_stride == 1) return kernels.mean(begin, met, to);
        met.channels = 1;
        for (int64_t c = 0; c < from.channels; ++c) kernels.mean(begin + c * from.channel_stride, met, to + c);
    }
};

// Return the layout of the means of images.
inline Geometry of_means(Geometry g) {
    g.channel_stride = 1, g.pixel_stride = g.channels, g.row_stride = g.size[1] * g.channels;
    return g;
}

}  // namespace
}  // namespace proxconnect
