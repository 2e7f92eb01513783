// Small images for the tests of convolutions, and which of their pixels an output pixel reads.
#pragma once

#include "proxconnect.h"

// Fill in the fields that follow from sizes, strides and the like, for images without gaps.
inline void lay_out(Geometry& g, bool is_channels_last) {
    for (int i = 0; i < 2; ++i) {
        g.out_size[i] = (g.size[i] + 2 * g.padding[i] - g.dilation[i] * (g.kernel[i] - 1) - 1) / g.stride[i] + 1;
    }
    const int64_t pixels = g.size[0] * g.size[1];
    g.image_stride = g.channels * pixels;
    g.channel_stride = is_channels_last ? 1 : pixels, g.pixel_stride = is_channels_last ? g.channels : 1;
    g.row_stride = g.size[1] * g.pixel_stride;
}

// Two images of 6 x 9 under a kernel of 3 x 2. `step` makes strides and dilations differ by axis.
inline Geometry small_images(int64_t channels, int64_t out_channels, int64_t groups, int64_t step,
                             bool is_channels_last) {
    Geometry g = {};
    g.batch = 2, g.channels = channels, g.out_channels = out_channels, g.groups = groups;
    g.size[0] = 6, g.size[1] = 9, g.kernel[0] = 3, g.kernel[1] = 2;
    g.stride[0] = step, g.stride[1] = 1, g.padding[0] = 1, g.padding[1] = 2;
    g.dilation[0] = 1, g.dilation[1] = step;
    lay_out(g, is_channels_last);
    return g;
}

// One image, of which a thread reads several hundred pixels if `step` is 1. Strides and dilations grow with `step`.
inline Geometry larger_images(int64_t channels, int64_t out_channels, int64_t step, bool is_channels_last) {
    Geometry g = {};
    g.batch = 1, g.channels = channels, g.out_channels = out_channels, g.groups = 1;
    g.size[0] = step == 1 ? 27 : 17, g.size[1] = 20, g.kernel[0] = step == 3 ? 1 : 3, g.kernel[1] = step == 3 ? 2 : 3;
    g.stride[0] = step, g.stride[1] = step == 3 ? 1 : step, g.padding[0] = 1, g.padding[1] = step;
    g.dilation[0] = step == 2 ? 2 : 1, g.dilation[1] = step;
    lay_out(g, is_channels_last);
    return g;
}

// Return the pixel that a tap of an output pixel reads, or -1 outside the border.
inline int64_t pixel_met(const Geometry& g, int64_t out_pixel, int64_t tap) {
    const int64_t row = out_pixel / g.out_size[1] * g.stride[0] - g.padding[0] + tap / g.kernel[1] * g.dilation[0];
    const int64_t column = out_pixel % g.out_size[1] * g.stride[1] - g.padding[1] + tap % g.kernel[1] * g.dilation[1];
    const bool is_inside = row >= 0 && row < g.size[0] && column >= 0 && column < g.size[1];
    return is_inside ? row * g.size[1] + column : -1;
}
