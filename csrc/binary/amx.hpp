// Products of signs by AMX, as bytes of ±1. AVX-512 computes products that are too small for tiles.
#pragma once

#include "isa/kernels.hpp"

namespace proxconnect {

// Kernels::binary_linear and Kernels::binary_conv.
void linear_by_amx(const uint64_t* rows, const uint8_t* nan, const uint64_t* panels, int64_t m, int64_t entries,
                   const Outputs& outputs, int64_t first, int64_t last);
void conv_by_amx(const PackedImage& image, const uint64_t* panels, const Geometry& g, const Outputs& outputs,
                 const Scratch& scratch, int64_t begin, int64_t end);

}  // namespace proxconnect
