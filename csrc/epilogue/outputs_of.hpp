// Convert arguments of the C interface to the kernels' Outputs.
#pragma once

#include "isa/kernels.hpp"

namespace proxconnect {

// Return outputs that are floats without steps. `output` has all channels.
inline Outputs outputs_of(const Output& output, int64_t channels, float* y) {
    Outputs outputs;
    outputs.output = output, outputs.channels = channels, outputs.y = y;
    return outputs;
}

inline Outputs outputs_of(const Fused& fused, int64_t channels, const float* const* others, void* output,
                          uint8_t* nan) {
    const bool are_signs = fused.signs != nullptr;
    Outputs outputs = outputs_of(fused.output, channels, are_signs ? nullptr : static_cast<float*>(output));
    outputs.steps = fused.steps, outputs.step_count = fused.step_count, outputs.others = others;
    outputs.signs = fused.signs, outputs.words = are_signs ? static_cast<uint64_t*>(output) : nullptr;
    outputs.nan = nan;
    return outputs;
}

// Return true if inputs were NaN but outputs are signs without NaN marks.
inline bool is_nan_lost(const Outputs& outputs, bool has_nan) {
    return has_nan && outputs.signs != nullptr && outputs.nan == nullptr;
}

}  // namespace proxconnect
