// Products of floats with a weight of signs: what they are given, and what their kernels share. They need no
// multiplication: four entries of a row have 16 sums ±a±b±c±d, and four bits of the weight say which of them is meant.
// row_tables.hpp and register_tables.hpp look such sums up; byte_products.hpp and amx.cpp multiply, where that is faster.
#pragma once

#include <cstdint>
#include <cstring>
#include <utility>

#include "isa/kernels.hpp"
#include "runtime/scratch.hpp"
#include "runtime/sizes.hpp"

namespace proxconnect {

// Rows of floats, `stride` apart, to be rounded if `rounds`: entry x of row r counts as the nearest whole number to
// x·inverse[r], which is within ±127, and sums of row r are multiplied by quantum[r], where these were found.
struct FloatRows {
    const float* x;
    int64_t count, entries, stride;
    bool rounds;
    const float *inverse = nullptr, *quantum = nullptr;
};

// Panels [first, last) of a weight of n rows, and where the sums go: y is (rows, …), `stride` floats from row to row,
// times a scale and plus a bias. They take the steps of `then`, if not null, which says where outputs begin.
struct FloatOutputs {
    const uint64_t* panels;
    int64_t first, last, n;
    Affine affine;
    float* y;
    int64_t stride;
    const Outputs* then = nullptr;
};

struct WeightOnlyKernels {
    void (*multiply)(const FloatRows& rows, const FloatOutputs& outputs);
    // The largest |x| as its bits, among which those of inf and NaN are the largest.
    uint32_t (*largest)(const float* x, int64_t count);
};

extern const WeightOnlyKernels portable_weight_only;
#if defined(__x86_64__)
extern const WeightOnlyKernels avx2_weight_only, avx512_weight_only, amx_weight_only;
#endif

const WeightOnlyKernels* weight_only_kernels_of(int32_t isa);  // null where this machine lacks it

// What numbers are multiplied by to be rounded, and what whole numbers stand for: the largest |x|, whose bits are given,
// becomes 127. The step is NaN for inf and NaN.
struct Quantum {
    float inverse, step;
};
Quantum quantum_of(uint32_t largest);

// Has outputs that were written take their steps, if there are any.
void take_steps(const Kernels& kernels, int64_t rows, const FloatOutputs& outputs);

// Nameless, so that each instruction set keeps its own copy of what follows, here and in the files that include this.
namespace {

// What is left from row `row` on.
inline FloatRows from_row(FloatRows rows, int64_t row) {
    rows.x += row * rows.stride, rows.count -= row;
    if (rows.quantum != nullptr) rows.inverse += row, rows.quantum += row;
    return rows;
}

inline FloatOutputs from_row(FloatOutputs outputs, int64_t row) {
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

// The same rows with their quanta, in memory of this thread, where they are to be rounded.
inline FloatRows with_quanta(FloatRows rows) {
    if (!rows.rounds) return rows;
    auto* const inverse = static_cast<float*>(scratch<Quantum>(2 * rows.count * static_cast<int64_t>(sizeof(float))));
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
