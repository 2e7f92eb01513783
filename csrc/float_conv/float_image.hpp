// Images of floats, channels last and with their border.
#pragma once

#include "epilogue/planes.hpp"
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

struct FloatImage {
    const Geometry& g;
    Geometry in_bytes = of_bytes(g, FLOAT_BYTES);
    ByteImage image{in_bytes};

    // Return the image at x, in memory of this thread.
    const uint8_t* copied(const float* x, int32_t threads) const {
        auto* const to = scratch<uint8_t, FloatImage>(image.size);
        put_image(image, x, 0, threads, to, [&](const float* row, uint8_t* place) {
            put_channels_last(g, row, reinterpret_cast<float*>(place));
        });
        return to;
    }

    bool is_laid_out() const {
        const bool is_dense = g.pixel_stride == g.channels && g.row_stride == g.size[1] * g.channels;
        return g.channel_stride == 1 && is_dense && g.padding[0] == 0 && g.padding[1] == 0;
    }
};

}  // namespace
}  // namespace proxconnect
