#include "epilogue/all_channels.hpp"

#include <algorithm>

#include "runtime/scratch.hpp"
#include "runtime/sizes.hpp"

namespace proxconnect {
namespace {

struct Scales;
struct Biases;

// Return memory of this thread that holds `count` times `value`. It begins at a cache line: if vectors of AVX-512 cross
// lines, a product of short rows takes up to 18 % longer.
template <class Tag>
float* filled(int64_t count, float value) {
    auto* const memory = static_cast<float*>(scratch<Tag>(count * static_cast<int64_t>(sizeof(float))));
    std::fill_n(memory, count, value);
    return memory;
}

}  // namespace

Output with_all_channels(const Output& output, int64_t channels) {
    constexpr float NO_BIAS = -0.0f;  // the one number that changes none when it is added
    float* const scale = filled<Scales>(channels + BEYOND, output.scales == 1 ? *output.scale : 1.0f);
    float* const bias = filled<Biases>(channels + BEYOND, NO_BIAS);
    if (output.scale != nullptr && output.scales != 1) std::copy_n(output.scale, channels, scale);
    if (output.bias != nullptr) std::copy_n(output.bias, channels, bias);
    for (int64_t i = 0; i < BEYOND; ++i) scale[channels + i] = scale[i], bias[channels + i] = bias[i];
    Output whole = output;
    whole.scale = scale, whole.bias = bias;
    return whole;
}

}  // namespace proxconnect
