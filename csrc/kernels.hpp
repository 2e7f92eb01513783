// What an instruction set offers; one file defines each, from the templates of products.hpp.
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

struct Kernels {
    // One row of signs; returns whether it holds NaN.
    bool (*pack_row)(const float* x, int64_t columns, uint64_t* words);
    // Output channels [8·first, 8·last) of all m rows.
    void (*binary_linear)(const uint64_t* rows, const uint8_t* nan, const uint64_t* panels, int64_t m, int64_t n,
                          int64_t entries, const Output& output, float* y, int64_t first, int64_t last);
    // Pixels [begin, end) of an image.
    void (*pack_pixels)(const float* image, const Geometry& geometry, int64_t begin, int64_t end, uint64_t* words,
                        uint8_t* nan);
    // Output pixels [begin, end) of an image; inputs and places are scratch, for 8·taps and for taps.
    void (*binary_conv)(const uint64_t* words, const uint8_t* nan, const uint64_t* panels, const Geometry& geometry,
                        const Output& output, const uint64_t* beyond, const uint64_t** inputs, int64_t* places, float* y,
                        int64_t begin, int64_t end);
    // Rows [first, last) of latents, and of gradients.
    void (*quantize)(const Quantization& quantization, int64_t first, int64_t last);
    void (*slope)(const Slope& slope, int64_t first, int64_t last);
};

extern const Kernels portable_kernels;
#if defined(__x86_64__)
extern const Kernels avx2_kernels, avx512_kernels;
#elif defined(__aarch64__)
extern const Kernels neon_kernels;
#endif

}  // namespace proxconnect
