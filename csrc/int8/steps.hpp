// The pieces of a row of bytes that a product takes at a time.
#pragma once

#include <vector>

#include "int8/kernels.hpp"

namespace proxconnect {

// Append the steps of a piece of a row that begins at `at`.
inline void add_steps(int64_t at, int64_t length, std::vector<Stretch>& steps) {
    for (int64_t k = 0; k < length; k += STEP) steps.push_back({at + k, ceil_div(least(STEP, length - k), 4)});
}

}  // namespace proxconnect
