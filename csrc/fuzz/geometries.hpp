// Draw convolutions and the layouts of their images.
#pragma once

#include <vector>

#include "fuzz/entries.hpp"

namespace fuzz {

enum class Lies { AS_GEOMETRY_SAYS, IN_ROWS, ANYHOW };  // which strides an entry point takes

// Draw a convolution of at most `most` products of entries, with one group unless several are allowed.
Geometry geometry(Draws& draws, bool has_groups, Lies lies, int64_t products);

// Draw one with a channel and an output in each of at least two groups.
Geometry depthwise_geometry(Draws& draws, int64_t products);

void find_out_size(Geometry& g);

// Return one more than the distance of the last entry of the images from the first, or 0 if there are none.
int64_t extent(const Geometry& g);

// Return the place of an entry of an image.
inline int64_t place(const Geometry& g, int64_t image, int64_t pixel, int64_t channel) {
    return image * g.image_stride + pixel / g.size[1] * g.row_stride + pixel % g.size[1] * g.pixel_stride +
           channel * g.channel_stride;
}

// Draw images in memory of exactly their extent, with NaN in the gaps.
Guarded<float> images(Draws& draws, const Geometry& g, Mood mood);

// Return the images without gaps, channels last.
std::vector<float> without_gaps(const Geometry& g, const Guarded<float>& x);

inline int64_t taps_of(const Geometry& g) { return g.kernel[0] * g.kernel[1]; }
inline int64_t out_pixels(const Geometry& g) { return g.out_size[0] * g.out_size[1]; }

// Return the place of output `i` of all images, channels last, in the layout of the outputs.
inline int64_t out_place(const Geometry& g, int64_t i) {
    const int64_t pixels = out_pixels(g), n = g.out_channels, image = i / (pixels * n);
    return g.has_planes ? (image * n + i % n) * pixels + i / n % pixels : i;
}

// Return the pixel that a tap of an output pixel reads, or -1 outside the border.
int64_t pixel_met(const Geometry& g, int64_t out_pixel, int64_t tap);

}  // namespace fuzz
