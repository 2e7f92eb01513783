// Floats in fixed point of three bytes: whole numbers v = d2·2^16 + d1·2^8 + d0 with digits within -128 to 127. An
// image has one step, and each output of a weight has its own. All products of digits but that of both d0 are summed
// exactly, together for each place of the result. The digits of a pixel are stored as d0, d1, d2. A weight is therefore
// four rows of whole numbers, (0, 0, w2), (0, w2, w1), (w2, w1, w0) and (w1, w0, 0), for the places 2^32 down to 2^8.
// Only AMX has these kernels.
#pragma once

#include "int8/kernels.hpp"

namespace proxconnect {

constexpr int64_t DIGITS = 3, PLACES = 4;

// The largest |x| of floats, as bits (those of inf and NaN are the largest), and the sum of |x|.
struct Extent {
    uint32_t largest = 0;
    double sum = 0;
};

struct DigitKernels {
    void (*extend)(Extent& extent, const float* x, int64_t count);
    // Write the digits of x·inverse, rounded, which is below 2^23 - 2^15 in size: three bytes each, one number after
    // the other.
    void (*put)(const float* x, int64_t count, float inverse, uint8_t* to);
    // The same for planes that are `apart` floats apart: `count` pixels become 3 · `channels` bytes each.
    void (*put_planes)(const float* x, int64_t channels, int64_t apart, int64_t count, float inverse, uint8_t* to);
    // Multiply rows of digits by a weight. Its blocks of 16 outputs are those of int8/kernels.hpp; the places of a
    // block follow each other, the highest first. Row r becomes row then.first + r.
    void (*multiply)(const ByteRows& rows, const int8_t* panels, const Outputs& then);
};

extern const DigitKernels digit_kernels;

}  // namespace proxconnect
