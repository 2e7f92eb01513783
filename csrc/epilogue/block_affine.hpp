// The scales and biases of a block of outputs.
#pragma once

#include <cstddef>
#include <cstring>

#include "proxconnect.h"

namespace proxconnect {
namespace {

// Those of `count` outputs from `at` on. The biases of the others are 0.
template <int64_t SIZE>
struct alignas(64) BlockAffine {
    float scale[SIZE], bias[SIZE] = {};

    BlockAffine(const Affine& of, int64_t at, int64_t count) {
        for (float& value : scale) value = of.scales == 1 ? *of.scale : 1.0f;
        const size_t bytes = static_cast<size_t>(count) * sizeof(float);
        if (of.scales > 1) std::memcpy(scale, of.scale + at, bytes);
        if (of.bias != nullptr) std::memcpy(bias, of.bias + at, bytes);
    }
};

}  // namespace
}  // namespace proxconnect
