// The taps of a kernel that an output pixel finds inside the image, and whether they contain NaN.
#pragma once

#include "binary/outputs.hpp"

namespace proxconnect {
namespace {

// The taps of a kernel that an output pixel finds inside the image: rows and columns [first, last).
struct TapRange {
    int64_t first[2], last[2];

    bool operator==(const TapRange& other) const {
        return first[0] == other.first[0] && first[1] == other.first[1] && last[0] == other.last[0] &&
               last[1] == other.last[1];
    }
    int64_t count() const { return (last[0] - first[0]) * (last[1] - first[1]); }
};

inline int64_t start_of(const Geometry& g, int axis, int64_t at) { return at * g.stride[axis] - g.padding[axis]; }

inline void find_taps_inside(const Geometry& g, int axis, int64_t at, TapRange& found) {
    const int64_t start = start_of(g, axis, at), step = g.dilation[axis], kernel = g.kernel[axis];
    const int64_t first = start >= 0 ? 0 : least((step - 1 - start) / step, kernel);
    const int64_t past = start + (kernel - 1) * step < g.size[axis] ? kernel : (g.size[axis] - start + step - 1) / step;
    found.first[axis] = first, found.last[axis] = most(first, past);
}

// Return true if the channels of a group that an output pixel reads contain NaN. For signs, whose NaN marks are by
// pixel, x is null.
inline bool meets_nan(const float* x, const uint8_t* nan, const Geometry& g, const TapRange& inside, int64_t group,
                      int64_t row, int64_t column) {
    const int64_t inner = g.channels / g.groups;
    for (int64_t i = inside.first[0]; i < inside.last[0]; ++i) {
        for (int64_t j = inside.first[1]; j < inside.last[1]; ++j) {
            const int64_t y = start_of(g, 0, row) + i * g.dilation[0], at = start_of(g, 1, column) + j * g.dilation[1];
            if (nan[y * g.size[1] + at] == 0) continue;
            if (x == nullptr) return true;
            const float* const pixel = x + y * g.row_stride + at * g.pixel_stride + group * inner * g.channel_stride;
            const float* const shift = g.input_shift == nullptr ? nullptr : g.input_shift + group * inner;
            for (int64_t c = 0; c < inner; ++c) {
                if (std::isnan(pixel[c * g.channel_stride] + (shift == nullptr ? 0.0f : shift[c]))) return true;
            }
        }
    }
    return false;
}

// Write NaN to the output pixels [begin, end) that read it.
inline void put_nan_pixels(const float* x, const uint8_t* nan, const Geometry& g, const Outputs& outputs, int64_t begin,
                           int64_t end) {
    const int64_t outer = g.out_channels / g.groups;
    for (int64_t pixel = begin; pixel < end; ++pixel) {
        const int64_t row = pixel / g.out_size[1], column = pixel % g.out_size[1];
        TapRange inside;
        find_taps_inside(g, 0, row, inside);
        find_taps_inside(g, 1, column, inside);
        for (int64_t group = 0; group < g.groups; ++group) {
            if (!meets_nan(x, nan, g, inside, group, row, column)) continue;
            put_nan(outputs, pixel, {group * outer, (group + 1) * outer});
        }
    }
}

}  // namespace
}  // namespace proxconnect
