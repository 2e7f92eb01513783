// Floats in fixed point of three bytes: whole numbers v = d2·2^16 + d1·2^8 + d0 of digits within -128 to 127, by one
// step for an image and one for each output of a weight. Of the nine products of digits all but that of both d0 are
// summed, exactly, those of a place of the result together: where digits of a pixel follow each other as d0, d1, d2, a
// weight is four rows of whole numbers, (0, 0, w2), (0, w2, w1), (w2, w1, w0) and (w1, w0, 0), of places 2^32 down to
// 2^8. It is done by AMX alone; nothing here may be called without has_amx().
#pragma once

#include "int8/kernels.hpp"

namespace proxconnect {

constexpr int64_t DIGITS = 3, PLACES = 4;

// Of floats: the largest |x| as its bits, among which those of inf and NaN are the largest, and the sum of |x|.
struct Extent {
    uint32_t largest = 0;
    double sum = 0;
};
void extend(Extent& extent, const float* x, int64_t count);

// The digits of x·inverse, rounded, which is below 2^23 - 2^15 in size: three bytes each, one number after the other.
void put_digits(const float* x, int64_t count, float inverse, uint8_t* to);

// The same of planes, which so lie apart: `count` pixels, of which each becomes 3 · `channels` bytes.
void put_digits_of_planes(const float* x, int64_t channels, int64_t apart, int64_t count, float inverse, uint8_t* to);

// Rows of digits times a weight, whose blocks of 16 outputs lie as those of int8/kernels.hpp, the places of a block one
// after the other, the highest first. Row r becomes row then.first + r.
void multiply_digits(const ByteRows& rows, const int8_t* panels, const Outputs& then);

// While this lasts, this thread has its tiles configured for rows of such steps.
class DigitTiles {
  public:
    DigitTiles(const Stretch* steps, int64_t count);
    DigitTiles(const DigitTiles&) = delete;
    ~DigitTiles();
};

}  // namespace proxconnect
