// Products of floats with a binary weight: the kernels' arguments, and helpers they share. Tables avoid
// multiplications: four entries of a row have 16 sums ±a±b±c±d, and four bits of the weight select one. row_tables.hpp,
// register_tables.hpp and table_conv.hpp look sums up; rounded_tables.hpp (few rows) and sum_tables.hpp those of rounded
// entries. amx.cpp and int8/linear.cpp multiply instead, where that is faster.
#pragma once

#include <cstdint>
#include <cstring>

#include "isa/kernels.hpp"
#include "isa/unrolled.hpp"
#include "runtime/scratch.hpp"
#include "runtime/sizes.hpp"

namespace proxconnect {

// Rows of floats, `stride` apart. If `rounds`, entry x of row r is rounded to the nearest whole number to x·inverse[r],
// within ±127, and sums of row r are multiplied by quantum[r]. Both are null until they are known.
struct FloatRows {
    const float* x;
    int64_t count, entries, stride;
    bool rounds;
    const float *inverse = nullptr, *quantum = nullptr;
};

// Panels [first, last) of a weight of n rows, whose outputs are channels from `channel` on. Row r becomes row
// then.first + row + r.
struct FloatOutputs {
    const uint64_t* panels;
    int64_t first, last, n;
    const Outputs& then;
    int64_t channel = 0, row = 0;
};

// An image with adjacent channels. Pixels are `stride` floats apart.
struct PixelRows {
    const float* pixels;
    int64_t stride;
};

// An image as bytes q + 128, with adjacent channels. Its border is not read. Pixel p has step quantum[p·apart].
struct BytePixels {
    const uint8_t* bytes;
    int64_t row_stride, pixel_stride;
    const float* quantum;
    int64_t apart;
};

// Outputs [first, last) of a binary weight. `first` is a multiple of eight.
struct SignOutputs {
    const uint64_t* panels;
    int64_t first, last;
};

struct WeightOnlyKernels {
    void (*multiply)(const FloatRows& rows, const FloatOutputs& outputs);
    // Return the bits of the largest |x|. Those of inf and NaN are the largest.
    uint32_t (*largest)(const float* x, int64_t count);
    // Compute output pixels [begin, end) of one group, whose channels fill half words. Null if patches are as fast.
    void (*convolve)(const PixelRows& image, const Geometry& g, int64_t begin, int64_t end,
                     const FloatOutputs& outputs) = nullptr;
    // The number of rounded rows from which on multiply_as_bytes is faster.
    int64_t least_as_bytes = INT64_MAX;
    // Return true if `look_up` is faster than products of bytes. Both are null if an instruction set lacks them.
    bool (*suits_sums)(const Geometry& g) = nullptr;
    // Compute output pixels [begin, end) of bytes. Row `first` of the outputs is that of pixel 0.
    void (*look_up)(const BytePixels& x, const Geometry& g, int64_t begin, int64_t end, const SignOutputs& weight,
                    const Outputs& then) = nullptr;
};

// The inverse step that rounds numbers, and the step that turns whole numbers back. The largest |x|, given by its bits,
// becomes 127. The step of inf and NaN is NaN.
struct Quantum {
    float inverse, step;
};
Quantum quantum_of(uint32_t largest);

// Apply the epilogue steps, if any, to outputs that are written.
void take_steps(const Kernels& kernels, int64_t rows, const FloatOutputs& outputs);

constexpr int64_t MOST_AS_BYTES = 1 << 17;  // entries whose sums of bytes 32 bits hold

// Return true if multiply_as_bytes can multiply these rows, and is faster.
bool suits_bytes(const Kernels& kernels, const FloatRows& rows, const FloatOutputs& outputs);

// Multiply rounded rows by tables of sums, or by a weight that `kernels.spread_signs` spreads to bytes.
void multiply_as_bytes(const Kernels& kernels, const FloatRows& rows, const FloatOutputs& outputs, int32_t threads);

// Multiply rows by panels of a binary weight, of which the first is a multiple of eight.
void multiply_by_signs(const Kernels& kernels, const FloatRows& rows, const FloatOutputs& outputs, int32_t threads);

// In an unnamed namespace, here and in the files that include this, so that each instruction set keeps its own copy.
namespace {

// Return the rows from `row` on.
inline FloatRows from_row(FloatRows rows, int64_t row) {
    rows.x += row * rows.stride, rows.count -= row;
    if (rows.quantum != nullptr) rows.inverse += row, rows.quantum += row;
    return rows;
}

inline FloatOutputs from_row(FloatOutputs outputs, int64_t row) {
    outputs.row += row;
    return outputs;
}

// Return the outputs of a row.
inline float* row_of(const FloatOutputs& o, int64_t row) {
    return o.then.y + (o.then.first + o.row + row) * o.then.channels + o.channel;
}

// Fetch what a tile of COUNT panels reads several words later, there or in the next tile, to the second cache. Rows of
// panels are too short for a processor to see that they are read in order.
template <size_t COUNT>
ALWAYS_INLINE inline void fetch_ahead(const uint64_t* const (&panels)[COUNT], int64_t word, int64_t words) {
    constexpr int64_t AHEAD = 32, OTHERS = static_cast<int64_t>(COUNT) - 1;
    const int64_t later = word + least(AHEAD, words), at = (later < words ? later : later + OTHERS * words) * PANEL;
    for (const uint64_t* const panel : panels) __builtin_prefetch(panel + at, 0, 2);
}

// Adding 1.5·2^23 rounds a number like std::rint, and leaves the whole number in the last bits.
constexpr float TO_WHOLE = 12582912.0f;

inline uint32_t largest(const float* x, int64_t count) {
    int32_t most = 0;
    for (int64_t i = 0; i < count; ++i) {
        int32_t bits;
        std::memcpy(&bits, x + i, sizeof bits);
        bits &= 0x7fffffff;
        most = bits > most ? bits : most;
    }
    return static_cast<uint32_t>(most);
}

// Return the rows with their quanta, in memory of this thread, if they are to be rounded and have none yet.
inline FloatRows with_quanta(FloatRows rows) {
    if (!rows.rounds || rows.quantum != nullptr) return rows;
    auto* const inverse = scratch<float, Quantum>(2 * rows.count);
    float* const quantum = inverse + rows.count;
    for (int64_t r = 0; r < rows.count; ++r) {
        const Quantum found = quantum_of(largest(rows.x + r * rows.stride, rows.entries));
        inverse[r] = found.inverse, quantum[r] = found.step;
    }
    rows.inverse = inverse, rows.quantum = quantum;
    return rows;
}

}  // namespace
}  // namespace proxconnect
