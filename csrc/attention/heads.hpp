// Attention of floats: the layout of heads, and how threads share them.
#pragma once

#include "proxconnect.h"
#include "runtime/sizes.hpp"

namespace proxconnect {

constexpr int64_t QUERIES_AT_ONCE = 32;

// The heads of all batches, one after another. The queries of each form bands of QUERIES_AT_ONCE.
struct Heads {
    const float *q, *k, *v;
    const Attention& shape;
    float* y;

    int64_t bands() const { return ceil_div(shape.queries, QUERIES_AT_ONCE); }
    int64_t count() const { return shape.batch * shape.heads * bands(); }
};

}  // namespace proxconnect
