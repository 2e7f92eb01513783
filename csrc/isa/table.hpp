// The table of kernels of an instruction set, made from its vectors.
#pragma once

#include "binary/images.hpp"
#include "binary/thin_conv.hpp"
#include "binary/word_conv.hpp"
#include "decoder/token.hpp"
#include "epilogue/layer_norm.hpp"
#include "epilogue/max_pool.hpp"
#include "epilogue/pixel_means.hpp"
#include "float_conv/depthwise.hpp"
#include "int8/inputs.hpp"
#include "int8/outputs.hpp"
#include "quantizer/quantizer.hpp"

namespace proxconnect {
namespace {

// What the vectors of plain C++, AVX2 and NEON share.
template <int N>
struct ByteCounting : Vectors<N> {
    static constexpr int outputs = N, panels = 1, at_once = 1;
    static constexpr int64_t limit = 31;  // a byte holds 31 counts of up to 8
    static constexpr auto pack_block = proxconnect::pack_block;
    static constexpr auto put_pixels = proxconnect::put_pixels<N>;
};

// The vectors of layer norms and the quantizer.
template <class V>
struct LanesOf : Lanes<V::outputs> {
    using typename Lanes<V::outputs>::Floats;
    static Floats fma(Floats a, Floats b, Floats c) { return V::fma(a, b, c); }
};

template <class V, AddBytes ADD>
constexpr Int8Kernels int8_with = {round_bytes, round_planes<V>, mean<V>, ADD, finish_sums<V>, pool_sums<V>, nullptr};

// V has the vectors of binary and 8-bit layers and epilogues, F those of layer norms, depthwise convolutions and the
// quantizer. The file of each template lists its needs.
template <class V, class F>
constexpr Kernels kernels_with(const WeightOnlyKernels& weight_only, const Int8Kernels& int8,
                               const AttentionKernel* attention = nullptr,
                               decltype(Kernels::multiply_floats) multiply = nullptr,
                               decltype(Kernels::spread_signs) spread_signs = nullptr) {
    return {pack_row<V>,     binary_linear<V>, pack_image<V>,    binary_conv<V>, spread_weight<V>,
            spread_image<V>, thin_conv<V>,     finish_floats<V>, pool_row<V>,    pixel_means<V>,
            layer_norm<F>,   quantize<F>,      slope<F>,         depthwise<V, F>, &weight_only,
            &int8,           &token_kernels<V>, attention,       multiply,      spread_signs};
}

}  // namespace
}  // namespace proxconnect
