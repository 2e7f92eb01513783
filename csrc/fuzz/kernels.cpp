// The function that libFuzzer, or driver.cpp, calls. The first byte selects an entry point.
#include "fuzz/entries.hpp"

namespace {

void (*const ENTRIES[])(fuzz::Draws&) = {
    fuzz::binary_linear,
    fuzz::binary_conv2d,
    fuzz::finish,
    fuzz::finish_max_pool2d,
    fuzz::weight_only_linear,
    fuzz::dynamic_int8_linear,
    fuzz::fused_float_linear,
    fuzz::linear_in_groups,
    fuzz::weight_only_conv2d,
    fuzz::dynamic_int8_conv2d,
    fuzz::fused_weight_only_conv2d,
    fuzz::int8_linear,
    fuzz::int8_conv2d,
    fuzz::fused_float_conv2d,
    fuzz::fused_float_conv2d_by_multiply_adds,
    fuzz::attention,
    fuzz::decoder_layer,
    fuzz::quantize,
    fuzz::quantize_backward,
    fuzz::layer_norm,
    fuzz::pixel_means,
    fuzz::prepack_signs,
};
constexpr size_t COUNT = sizeof ENTRIES / sizeof *ENTRIES;

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
    if (size == 0) return 0;
    fuzz::Draws draws(bytes + 1, size - 1);
    ENTRIES[*bytes % COUNT](draws);
    return 0;
}
