#include "epilogue/outputs_of.hpp"

#include <algorithm>

#include "runtime/scratch.hpp"
#include "runtime/sizes.hpp"

namespace proxconnect {
namespace {

struct Scales;
struct Biases;

// Return `values`, or copies of `all` if they are null, and the first again, in memory of this thread. It begins at a
// cache line: if vectors of AVX-512 cross lines, a product of short rows takes up to 18 % longer.
template <class Tag>
float* whole(const float* values, int64_t channels, float all) {
    const int64_t count = channels + BEYOND;
    auto* const memory = scratch<float, Tag>(count);
    if (values == nullptr) return std::fill_n(memory, count, all), memory;
    std::copy_n(values, channels, memory);
    for (int64_t i = 0; i < BEYOND; ++i) memory[channels + i] = memory[i];
    return memory;
}

Output with_all_channels(Output output, int64_t channels) {
    constexpr float NO_BIAS = -0.0f;  // the one number that changes none when it is added
    if (output.scales > channels) return output;
    const bool has_one = output.scales == 1;
    output.scale = whole<Scales>(has_one ? nullptr : output.scale, channels, has_one ? *output.scale : 1.0f);
    output.bias = whole<Biases>(output.bias, channels, NO_BIAS);
    return output;
}

}  // namespace

Outputs outputs_of(const Fused& fused, int64_t channels, const float* const* others, void* output, uint8_t* nan) {
    Outputs outputs = {with_all_channels(fused.output, channels), channels};
    outputs.steps = fused.steps, outputs.step_count = fused.step_count, outputs.others = others;
    outputs.signs = fused.signs, outputs.nan = nan;
    if (fused.signs == nullptr) outputs.y = static_cast<float*>(output);
    else outputs.words = static_cast<uint64_t*>(output);
    return outputs;
}

}  // namespace proxconnect
