// Convert arguments of the C interface to the kernels' Outputs.
#pragma once

#include "isa/kernels.hpp"

namespace proxconnect {

// A scale and a bias that the caller did not repeat lie in memory of this thread until its next call.
Outputs outputs_of(const Fused& fused, int64_t channels, const float* const* others, void* output,
                   uint8_t* nan = nullptr);

// Return true if inputs were NaN but outputs are signs without NaN marks.
inline bool is_nan_lost(const Outputs& outputs, bool has_nan) {
    return has_nan && outputs.signs != nullptr && outputs.nan == nullptr;
}

}  // namespace proxconnect
