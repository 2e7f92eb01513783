#include "epilogue/all_channels.hpp"

#include <algorithm>
#include <vector>

#include "runtime/sizes.hpp"

namespace proxconnect {

Output with_all_channels(const Output& output, int64_t channels) {
    constexpr float NO_BIAS = -0.0f;  // the one number that changes none when it is added
    static thread_local std::vector<float> scale, bias;
    scale.assign(static_cast<size_t>(channels + BEYOND), output.scales == 1 ? *output.scale : 1.0f);
    bias.assign(static_cast<size_t>(channels + BEYOND), NO_BIAS);
    if (output.scale != nullptr && output.scales != 1) std::copy_n(output.scale, channels, scale.begin());
    if (output.bias != nullptr) std::copy_n(output.bias, channels, bias.begin());
    for (int64_t i = 0; i < BEYOND; ++i) {
        const size_t first = static_cast<size_t>(i), again = static_cast<size_t>(channels + i);
        scale[again] = scale[first], bias[again] = bias[first];
    }
    Output whole = output;
    whole.scale = scale.data(), whole.bias = bias.data();
    return whole;
}

}  // namespace proxconnect
