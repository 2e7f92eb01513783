// The pieces of a row of bytes, and the steps that a product takes at a time.
#pragma once

#include <vector>

#include "int8/kernels.hpp"

namespace proxconnect {
namespace {

// A patch as `count` pieces of adjacent entries: rows of the kernel, or taps if these are apart.
struct Pieces {
    int64_t count, length;

    explicit Pieces(const Geometry& g) : count(g.kernel[0]), length(g.kernel[1] * g.channels) {
        if (g.dilation[1] > 1) count *= g.kernel[1], length = g.channels;
    }
};

// Append the steps of a piece of a row that begins at `at`.
inline void add_steps(int64_t at, int64_t length, std::vector<Stretch>& steps) {
    for (int64_t k = 0; k < length; k += STEP) steps.push_back({at + k, ceil_div(least(STEP, length - k), 4)});
}

}  // namespace
}  // namespace proxconnect
