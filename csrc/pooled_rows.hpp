// Rows of an image that are made one after the other and pooled while they are in the cache.
#pragma once

#include <cstddef>
#include <vector>

#include "kernels.hpp"
#include "sizes.hpp"

namespace proxconnect {

// Rows [begin, end) of what a max pool makes of an image, y, whose rows make(row, place) writes. As many of these are kept
// as a window is high, each where the row that many above it was.
template <class Make>
void pool_rows(const Kernels& kernels, const Window& w, int64_t channels, int64_t begin, int64_t end, const Make& make,
               float* y) {
    static thread_local std::vector<float> memory;
    static thread_local std::vector<const float*> met;
    const int64_t size = w.size[1] * channels, out_size = w.out_size[1] * channels;
    memory.resize(static_cast<size_t>(w.kernel[0] * size));
    met.resize(static_cast<size_t>(w.kernel[0]));
    for (int64_t done = 0; begin < end; ++begin) {
        const int64_t top = begin * w.stride[0] - w.padding[0];
        const int64_t first = most(top, 0), last = least(top + w.kernel[0], w.size[0]);
        for (int64_t row = first; row < last; ++row) {
            float* const place = memory.data() + row % w.kernel[0] * size;
            if (row >= done) make(row, place);
            met[static_cast<size_t>(row - first)] = place;
        }
        done = most(done, last);
        kernels.pool_row(met.data(), last - first, w.size[1], channels, w, w.out_size[1], y + begin * out_size);
    }
}

}  // namespace proxconnect
