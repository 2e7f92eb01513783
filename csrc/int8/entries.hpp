// What the entry points of 8-bit layers share: the kernels of an instruction set, and where a patch lies.
#pragma once

#include <vector>

#include "int8/kernels.hpp"

namespace proxconnect {

const Int8Kernels* int8_kernels_of(int32_t isa);  // null where this machine lacks it

// Appends the steps of a piece of a row that begins at `at`.
void add_steps(int64_t at, int64_t length, std::vector<Stretch>& steps);

// The largest |x| as its bits, among which those of inf and NaN are the largest.
uint32_t largest_in(int32_t isa, const float* x, int64_t count);

}  // namespace proxconnect
