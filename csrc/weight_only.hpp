// Products of floats with a weight of signs: what they are given, and what their kernels share. They need no
// multiplication: four entries of a row have 16 sums ±a±b±c±d, and four bits of the weight say which of them is meant.
// row_tables.hpp and register_tables.hpp look such sums up; byte_products.hpp multiplies, where that is faster.
#pragma once

#include <cstdint>
#include <cstring>
#include <utility>

#include "proxconnect.h"
#include "scratch.hpp"
#include "sizes.hpp"

namespace proxconnect {

// Rows of floats, `stride` apart. Where `quantum` is not null they are rounded: entry x of row r counts as the nearest
// whole number to x·inverse[r], which is within ±127, and sums of row r are multiplied by quantum[r].
struct FloatRows {
    const float* x;
    int64_t count, entries, stride;
    const float *inverse, *quantum;
};

// Panels [first, last) of a weight of n rows, and where the sums go: y is (rows, …), `stride` floats from row to row,
// times a scale and plus a bias.
struct Outputs {
    const uint64_t* panels;
    int64_t first, last, n;
    Affine affine;
    float* y;
    int64_t stride;
};

struct WeightOnlyKernels {
    void (*multiply)(const FloatRows& rows, const Outputs& outputs);
    // The largest |x| as its bits, among which those of inf and NaN are the largest.
    uint32_t (*largest)(const float* x, int64_t count);
};

extern const WeightOnlyKernels portable_weight_only;
#if defined(__x86_64__)
extern const WeightOnlyKernels avx2_weight_only, avx512_weight_only;
#endif

const WeightOnlyKernels* weight_only_kernels_of(int32_t isa);  // null where this machine lacks it

// What numbers are multiplied by to be rounded, and what whole numbers stand for: the largest |x|, whose bits are given,
// becomes 127. The step is NaN for inf and NaN.
struct Quantum {
    float inverse, step;
};
Quantum quantum_of(uint32_t largest);

// The quantum of each row.
void find_quanta(const WeightOnlyKernels& kernels, const FloatRows& rows, float* inverse, float* quantum);

// Nameless, so that each instruction set keeps its own copy of what follows, here and in the files that include this.
namespace {

// What is left from row `row` on.
inline FloatRows from_row(FloatRows rows, int64_t row) {
    rows.x += row * rows.stride, rows.count -= row;
    if (rows.quantum != nullptr) rows.inverse += row, rows.quantum += row;
    return rows;
}

inline Outputs from_row(Outputs outputs, int64_t row) {
    outputs.y += row * outputs.stride;
    return outputs;
}

// What 1.5·2^23 is added to becomes a whole number, rounded as std::rint does, which the last bits are.
constexpr float TO_WHOLE = 12582912.0f;

#define ALWAYS_INLINE __attribute__((always_inline))

// Work for 0, …, COUNT - 1, each a constant, without which GCC keeps arrays of vectors in memory.
template <class Work, int... I>
ALWAYS_INLINE inline void unrolled(Work work, std::integer_sequence<int, I...>) {
    (work(std::integral_constant<int, I>()), ...);
}

template <int COUNT, class Work>
ALWAYS_INLINE inline void unrolled(Work work) {
    unrolled(work, std::make_integer_sequence<int, COUNT>());
}

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

}  // namespace
}  // namespace proxconnect
