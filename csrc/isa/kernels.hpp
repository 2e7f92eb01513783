// The functions that each instruction set offers.
#pragma once

#include "proxconnect.h"

namespace proxconnect {

// The arguments of px_quantize and px_quantize_backward.
struct Quantization {
    int32_t is_bfloat16, curve, is_unit;
    float mu;
    int64_t entries, columns;
    const void* x;
    void* y;
    float *divisor, *factor;
    uint8_t* inside;
};

struct Slope {
    int32_t is_bfloat16, curve;
    float mu;
    int64_t entries, columns;
    const void *x, *g;
    const float *divisor, *factor;
    const uint8_t* inside;
    void* y;
};

// Rows of signs, ⌈entries/64⌉ words each, and whether each is NaN.
struct SignRows {
    const uint64_t* words;
    const uint8_t* nan;
    int64_t count, entries;
};

// Rows of an image as bits: `pad` pixels of border, the pixels with all their channels, and the border again. The row
// after the last is all border. So are as many rows as are padded before the first and after the last. If the border is
// zero, `upper` has the same rows with a border of +1.
struct PackedImage {
    Signed from;
    uint64_t *rows, *upper;
    uint8_t* nan;  // pixels that hold NaN; null where none does
    int64_t pad, width;  // in pixels and in words
};

// Memory of a convolution. `lists` holds four entries for each word of a patch, for each of TILES + 1 tiles of up to
// ROWS output pixels. `patches` holds the bits of PATCHES output pixels, and one more word for each.
constexpr int64_t TILES = 64, ROWS = 4, PATCHES = 2 * TILES * ROWS;
struct Scratch {
    int64_t* lists;
    uint64_t* patches;
};

// Inputs of a convolution with few channels in a group, as bytes of up to eight channels: the image (planes, pixels,
// out channels) and the weight (taps, planes, out channels + 64). A group has `planes` bytes, which each of its output
// channels finds at its own place. After the image follow one border pixel for each plane and 64 more bytes.
struct ThinImage {
    Signed from;
    const uint8_t *weight, *pixels, *nan;  // NaN as above
};

// A tap of a depthwise convolution: the offset of the first pixel that it reads, and its weight for all channels.
struct Tap {
    int64_t at;
    const float* weight;
};

// Output pixels of a depthwise convolution, which read pixels of x that are `apart` floats apart through the same taps.
struct DepthwisePixels {
    const float* x;
    int64_t apart, count;
    const Tap* taps;
    int64_t tap_count;
};

// Where outputs go, and how sums become outputs. Row r begins at y[(first + r)·channels]. With `signs` it begins at
// words[(first + r)·⌈channels/64⌉], which are 0 before, and nan[first + r], if not null, marks rows that are NaN.
struct Outputs {
    Output output;  // with a scale and a bias for every channel and 80 beyond, which are the first again
    int64_t channels, first = 0;
    float* y = nullptr;
    const Step* steps = nullptr;
    int64_t step_count = 0;
    const float* const* others = nullptr;
    const Signs* signs = nullptr;
    uint64_t* words = nullptr;
    uint8_t* nan = nullptr;
};

// The keys and values of a head, `tokens` adjacent rows each. `seen`, if not null, is 0 for tokens that are masked.
struct HeadCache {
    const float *keys, *values;
    int64_t tokens;
    const uint8_t* seen;
};

// The parts of a decoder layer in decoder/token.hpp.
struct TokenKernels {
    void (*rms_norm)(const float* x, const float* weight, int64_t width, float eps, float* y);
    void (*rotate)(const float* x, const float* cosine, const float* sine, int64_t width, float* y);
    void (*gate)(const float* gate, const float* up, int64_t count, float* y);
    void (*attend)(const float* query, const HeadCache& cache, int64_t width, float scale, float* scores, float* y);
};

struct AttentionKernel;
struct WeightOnlyKernels;
struct Int8Kernels;
struct DigitKernels;
struct FloatPatches;

struct Kernels {
    // Pack one row of signs. Return true if it contains NaN.
    bool (*pack_row)(const float* x, int64_t columns, uint64_t* words);
    // Compute output channels [8·first, 8·last) of all rows.
    void (*binary_linear)(const SignRows& rows, const uint64_t* panels, const Outputs& outputs, int64_t first,
                          int64_t last);
    // Pack rows [begin, end) of an image. `words` is scratch for their pixels, ⌈channels/64⌉ words each.
    void (*pack_image)(const Geometry& geometry, int64_t begin, int64_t end, uint64_t* words, const PackedImage& image);
    // Compute output pixels [begin, end) of an image, which are rows of the outputs.
    void (*binary_conv)(const PackedImage& image, const uint64_t* panels, const Geometry& geometry,
                        const Outputs& outputs, const Scratch& scratch, int64_t begin, int64_t end);
    // Spread words to bytes: the weight, and rows [begin, end) of an image.
    void (*spread_weight)(const uint64_t* words, const Geometry& geometry, uint8_t* bytes);
    void (*spread_image)(const PackedImage& image, const Geometry& geometry, int64_t begin, int64_t end,
                         uint8_t* bytes);
    // Like binary_conv, for few channels in a group. `scratch` has room for 4·taps·planes.
    void (*thin_conv)(const ThinImage& image, const Geometry& geometry, const Outputs& outputs, int64_t* scratch,
                      int64_t begin, int64_t end);
    // Apply the steps to floats [begin, end) of x, which are laid out like the outputs.
    void (*finish)(const float* x, const Outputs& outputs, int64_t begin, int64_t end);
    // Pool one row of output pixels, whose windows cover `count` rows of `width` pixels.
    void (*pool_row)(const float* const* rows, int64_t count, int64_t width, int64_t channels, const Window& window,
                     int64_t out_width, float* y);
    // Average MEANS_AT_ONCE channels over the pixels of an image.
    void (*pixel_means)(const float* x, int64_t pixels, int64_t channels, float* y);
    // Norm rows [first, last).
    void (*layer_norm)(const float* x, const LayerNorm& norm, int64_t first, int64_t last, float* y);
    // Process rows [first, last) of latents, or of gradients.
    void (*quantize)(const Quantization& quantization, int64_t first, int64_t last);
    void (*slope)(const Slope& slope, int64_t first, int64_t last);
    // Compute channels [first, last) of pixels of a depthwise convolution of floats.
    void (*depthwise)(const DepthwisePixels& pixels, int64_t first, int64_t last, const Outputs& then);
    const WeightOnlyKernels* weight_only;
    const Int8Kernels* int8;
    const TokenKernels* token;
    const AttentionKernel* attention = nullptr;  // null without AVX2
    // Multiply patches by a weight of floats. Null without AVX2.
    void (*multiply_floats)(const FloatPatches& patches, const float* panels, const Outputs& then) = nullptr;
    // Spread blocks [first, last), of sixteen outputs each, of a binary weight to those of an int8 weight. Null if tables
    // are faster.
    void (*spread_signs)(const uint64_t* panels, const Geometry& geometry, int64_t first, int64_t last,
                         int8_t* to) = nullptr;
    const DigitKernels* digits = nullptr;  // null without tiles
};

extern const Kernels portable_kernels;
extern const WeightOnlyKernels portable_weight_only;
#if defined(__x86_64__)
extern const Kernels avx2_kernels, avx512_vnni_kernels, avx512_kernels;
// AVX-512's tables need no more than AVX512_VNNI.
extern const WeightOnlyKernels avx2_weight_only, avx512_weight_only, amx_weight_only;
extern const AttentionKernel amx_attention;
#elif defined(__aarch64__)
extern const Kernels neon_kernels, dot_product_kernels;  // NEON, and with the dot products of ARMv8.2
extern const WeightOnlyKernels rounded_as_bytes;         // portable, but never for rounded rows of few entries
#endif

// Return the kernels of an instruction set, or null if this machine lacks it.
const Kernels* kernels_of(int32_t isa);

}  // namespace proxconnect
