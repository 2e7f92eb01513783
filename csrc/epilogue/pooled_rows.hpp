// Rows of an image that are made one after the other and pooled while they are in the cache.
#pragma once

#include <cstddef>
#include <vector>

#include "isa/kernels.hpp"
#include "runtime/sizes.hpp"

namespace proxconnect {

// For rows [begin, end) of what a pool makes of an image whose rows have `size` entries: has make(row, place) write those
// that it meets, and pool(rows, count, out_row) pool them. As many are kept as a window is high, each where the row that
// many above it was.
template <class T, class Make, class Pool>
void pool_rows(const Window& w, int64_t size, int64_t begin, int64_t end, const Make& make, const Pool& pool) {
    static thread_local std::vector<T> memory;
    static thread_local std::vector<const T*> met;
    memory.resize(static_cast<size_t>(w.kernel[0] * size));
    met.resize(static_cast<size_t>(w.kernel[0]));
    for (int64_t done = 0; begin < end; ++begin) {
        const int64_t top = begin * w.stride[0] - w.padding[0];
        const int64_t first = most(top, 0), last = least(top + w.kernel[0], w.size[0]);
        for (int64_t row = first; row < last; ++row) {
            T* const place = memory.data() + row % w.kernel[0] * size;
            if (row >= done) make(row, place);
            met[static_cast<size_t>(row - first)] = place;
        }
        done = most(done, last);
        pool(met.data(), last - first, begin);
    }
}

// The same of rows of floats, all channels of a pixel together, into y.
template <class Make>
void pool_floats(const Kernels& kernels, const Window& w, int64_t channels, int64_t begin, int64_t end, const Make& make,
                 float* y) {
    const auto pool = [&](const float* const* rows, int64_t count, int64_t row) {
        float* const to = y + row * w.out_size[1] * channels;
        kernels.pool_row(rows, count, w.size[1], channels, w, w.out_size[1], to);
    };
    pool_rows<float>(w, w.size[1] * channels, begin, end, make, pool);
}

}  // namespace proxconnect
