// Layer norms of rows. The mean is subtracted before the squares are summed, so that no digits cancel.
#pragma once

#include <cmath>

#include "isa/kernels.hpp"
#include "isa/vectors.hpp"

namespace proxconnect {
namespace {

// Call work(offset, count) for each vector of a row. The last may have fewer floats than lanes.
template <class I, class Work>
inline void by_floats(int64_t width, const Work& work) {
    int64_t c = 0;
    for (; c + I::lanes <= width; c += I::lanes) work(c, int64_t{I::lanes});
    if (c < width) work(c, width - c);
}

// ROWS rows at once share the loads of the weight and the bias.
template <class I, int ROWS>
void norm_rows(const float* x, const LayerNorm& norm, float* y) {
    using V = typename I::Floats;
    const int64_t width = norm.width;
    const float entries = static_cast<float>(width);
    V sums[ROWS] = {}, squares[ROWS] = {}, means[ROWS], factors[ROWS];
    by_floats<I>(width, [&](int64_t c, int64_t count) {
        for (int r = 0; r < ROWS; ++r) sums[r] += loaded_over(V{}, x + r * width + c, count);
    });
    for (int r = 0; r < ROWS; ++r) means[r] = I::all(sum_of<I::lanes>(sums[r]) / entries);
    by_floats<I>(width, [&](int64_t c, int64_t count) {
        for (int r = 0; r < ROWS; ++r) {
            const V deviation = loaded_over(means[r], x + r * width + c, count) - means[r];
            squares[r] = I::fma(deviation, deviation, squares[r]);
        }
    });
    for (int r = 0; r < ROWS; ++r) {
        factors[r] = I::all(1.0f / std::sqrt(sum_of<I::lanes>(squares[r]) / entries + norm.eps));
    }
    by_floats<I>(width, [&](int64_t c, int64_t count) {
        const V weight = loaded_over(V{}, norm.weight + c, count), bias = loaded_over(V{}, norm.bias + c, count);
        for (int r = 0; r < ROWS; ++r) {
            const V deviation = loaded_over(V{}, x + r * width + c, count) - means[r];
            store_part(I::fma(deviation * factors[r], weight, bias), count, y + r * width + c);
        }
    });
}

template <class I>
void layer_norm(const float* x, const LayerNorm& norm, int64_t first, int64_t last, float* y) {
    constexpr int AT_ONCE = 4;
    int64_t r = first;
    for (; r + AT_ONCE <= last; r += AT_ONCE) norm_rows<I, AT_ONCE>(x + r * norm.width, norm, y + r * norm.width);
    for (; r < last; ++r) norm_rows<I, 1>(x + r * norm.width, norm, y + r * norm.width);
}

}  // namespace
}  // namespace proxconnect
