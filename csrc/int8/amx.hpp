// Int8 products by AMX.
#pragma once

#include "int8/kernels.hpp"

namespace proxconnect {

// Return AVX-512's kernels, with those replaced that tiles do faster.
Int8Kernels with_tiles(Int8Kernels kernels);

}  // namespace proxconnect
