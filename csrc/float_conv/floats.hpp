// Patches of images of floats. A float is four bytes, so that an image of floats is one of bytes with four times the
// channels, and a group of four bytes in int8/kernels.hpp is one float.
#pragma once

#include "int8/kernels.hpp"

namespace proxconnect {

constexpr int64_t FLOAT_BYTES = sizeof(float);
constexpr int64_t MOST_PATCHES = 48;  // at once

// Patches that begin at x[0], x[1], …. Each has `entries` floats in its steps.
struct FloatPatches {
    const uint8_t* const* x;
    int64_t count;
    const Stretch* steps;
    int64_t step_count, entries;
};

}  // namespace proxconnect
