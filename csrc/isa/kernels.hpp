// What an instruction set offers; one file defines each, from templates.
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

// Rows of an image as bits: `pad` pixels of the border, the pixels, each with all its channels, and the border again;
// the row after the last is border alone. Where the border is nothing, `upper` has the same rows with a border of 1.
struct PackedImage {
    Signed from;
    uint64_t *rows, *upper;
    uint8_t* nan;  // pixels that hold NaN; null where none does
    int64_t pad, width;  // in pixels and in words
};

// Where a convolution works: `inputs` and `places` are for TILES tiles of up to ROWS output pixels, `patches` for the
// bits of PATCHES output pixels, and a word more each.
constexpr int64_t TILES = 64, ROWS = 4, PATCHES = 2 * TILES * ROWS;
struct Scratch {
    const uint64_t** inputs;
    int64_t* places;
    uint64_t* patches;
    const uint64_t** starts;  // for the taps of a row of pixels
};

// What a convolution of few channels a group reads, bytes of up to eight channels: of the image (planes, pixels, out
// channels) and of the weight (taps, planes, out channels and 64 more), `planes` bytes for the channels of a group,
// which each output channel finds at its own place. After the image come a pixel of the border for each plane, and 64
// bytes more.
struct ThinImage {
    Signed from;
    const uint8_t *weight, *pixels, *nan;  // NaN as above
};

// Where outputs go, and how sums become outputs: row r begins at y[(first + r)·channels], or where there are `signs` at
// words[(first + r)·⌈channels/64⌉], which are 0 before, and at nan[first + r], if rows of NaN are to be marked.
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

struct Kernels {
    // One row of signs; returns whether it holds NaN.
    bool (*pack_row)(const float* x, int64_t columns, uint64_t* words);
    // Output channels [8·first, 8·last) of all m rows.
    void (*binary_linear)(const uint64_t* rows, const uint8_t* nan, const uint64_t* panels, int64_t m, int64_t entries,
                          const Outputs& outputs, int64_t first, int64_t last);
    // Rows [begin, end) of an image; `words` is scratch for the pixels of these rows, ⌈channels/64⌉ each.
    void (*pack_image)(const Geometry& geometry, int64_t begin, int64_t end, uint64_t* words, const PackedImage& image);
    // Output pixels [begin, end) of an image, which are rows of the outputs.
    void (*binary_conv)(const PackedImage& image, const uint64_t* panels, const Geometry& geometry,
                        const Outputs& outputs, const Scratch& scratch, int64_t begin, int64_t end);
    // From words to bytes: the weight, and rows [begin, end) of an image.
    void (*spread_weight)(const uint64_t* words, const Geometry& geometry, uint8_t* bytes);
    void (*spread_image)(const PackedImage& image, const Geometry& geometry, int64_t begin, int64_t end,
                         uint8_t* bytes);
    // The same; scratch is for 4·taps·planes.
    void (*thin_conv)(const ThinImage& image, const Geometry& geometry, const Outputs& outputs, int64_t* scratch,
                      int64_t begin, int64_t end);
    // Floats [begin, end) of x, which lie as the outputs do, take the steps.
    void (*finish)(const float* x, const Outputs& outputs, int64_t begin, int64_t end);
    // One row of output pixels of a window that meets `count` rows of `width` pixels.
    void (*pool_row)(const float* const* rows, int64_t count, int64_t width, int64_t channels, const Window& window,
                     int64_t out_width, float* y);
    // Rows [first, last) of latents, and of gradients.
    void (*quantize)(const Quantization& quantization, int64_t first, int64_t last);
    void (*slope)(const Slope& slope, int64_t first, int64_t last);
};

extern const Kernels portable_kernels;
#if defined(__x86_64__)
extern const Kernels avx2_kernels, avx512_kernels, amx_kernels;
#elif defined(__aarch64__)
extern const Kernels neon_kernels;
#endif

// Those of an instruction set, or null where this machine lacks it.
const Kernels* kernels_of(int32_t isa);

}  // namespace proxconnect
