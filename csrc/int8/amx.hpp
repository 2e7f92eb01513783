// Products of bytes with bytes by AMX.
#pragma once

#include "int8/kernels.hpp"

namespace proxconnect {

// AVX-512's kernels, but for those that tiles do faster.
Int8Kernels with_tiles(Int8Kernels kernels);

}  // namespace proxconnect
