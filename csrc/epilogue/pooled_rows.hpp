// Rows of an image that are computed one after the other, and pooled while they are in the cache.
#pragma once

#include "isa/kernels.hpp"
#include "runtime/scratch.hpp"
#include "runtime/sizes.hpp"

namespace proxconnect {

// Compute and pool the rows that output rows [begin, end) of a pool read. make(row, place) writes a row of `size`
// entries, and pool(rows, count, out_row) pools them. Memory holds as many rows as a window is high: each new row
// replaces the oldest.
template <class T, class Make, class Pool>
void pool_rows(const Window& w, int64_t size, int64_t begin, int64_t end, const Make& make, const Pool& pool) {
    T* const memory = scratch<T, Window>(w.kernel[0] * size);
    const T** const met = scratch<const T*, Window>(w.kernel[0]);
    for (int64_t done = 0; begin < end; ++begin) {
        const int64_t top = begin * w.stride[0] - w.padding[0];
        const int64_t first = most(top, 0), last = least(top + w.kernel[0], w.size[0]);
        for (int64_t row = first; row < last; ++row) {
            T* const place = memory + row % w.kernel[0] * size;
            if (row >= done) make(row, place);
            met[row - first] = place;
        }
        done = most(done, last);
        pool(met, last - first, begin);
    }
}

// The same for rows of floats, channels last, into y.
template <class Make>
void pool_floats(const Kernels& kernels, const Window& w, int64_t channels, int64_t begin, int64_t end,
                 const Make& make, float* y) {
    const auto pool = [&](const float* const* rows, int64_t count, int64_t row) {
        float* const to = y + row * w.out_size[1] * channels;
        kernels.pool_row(rows, count, w.size[1], channels, w, w.out_size[1], to);
    };
    pool_rows<float>(w, w.size[1] * channels, begin, end, make, pool);
}

}  // namespace proxconnect
