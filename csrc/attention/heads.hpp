// Attention of floats: the layout of heads, and how threads share them.
#pragma once

#include "isa/kernels.hpp"
#include "runtime/sizes.hpp"

namespace proxconnect {

// The heads of all batches, one after another. The queries of each form bands of `queries_at_once`.
struct Heads {
    const float *q, *k, *v;
    const Attention& shape;
    float* y;
    int64_t queries_at_once;
};

struct AttentionKernel {
    int64_t queries_at_once;
    // Compute bands [first, last). Return false, with some outputs unwritten, if the kernel does not support an entry.
    bool (*attend)(const Heads& heads, int64_t first, int64_t last);
};

namespace {

inline int64_t bands_of(const Heads& heads) { return ceil_div(heads.shape.queries, heads.queries_at_once); }

// The begins of a head's queries, keys, values and answers. Tokens of y are `y_stride` floats apart.
struct Head {
    const float *q, *k, *v;
    float* y;
    int64_t y_stride;
};

// Call attend(head, begin, end) for each head that has bands among [first, last), with those as its own bands
// [begin, end). Return false as soon as a call does.
template <class Attend>
bool each_head(const Heads& heads, int64_t first, int64_t last, const Attend& attend) {
    const Attention& shape = heads.shape;
    const int64_t bands = bands_of(heads), y_stride = shape.heads * shape.width;
    while (first < last) {
        const int64_t batch = first / bands / shape.heads, number = first / bands % shape.heads, band = first % bands;
        const auto start = [&](const float* x, const int64_t* strides) {
            return x + batch * strides[0] + number * strides[1];
        };
        const Head head = {start(heads.q, shape.q_strides), start(heads.k, shape.k_strides),
                           start(heads.v, shape.v_strides),
                           heads.y + batch * shape.queries * y_stride + number * shape.width, y_stride};
        const int64_t end = least(bands, band + last - first);
        if (!attend(head, band, end)) return false;
        first += end - band;
    }
    return true;
}

}  // namespace
}  // namespace proxconnect
