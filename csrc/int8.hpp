// Products of bytes with bytes, of layers whose weights are whole numbers within ±127: what they are given, and what
// their kernels share. Rows are rounded as those of weight_only.hpp, but lie as q + 128, since the instructions that
// multiply bytes take one side without a sign: 128 times the sum of a row of the weight is subtracted afterwards.
#pragma once

#include <cstdint>
#include <cstring>

#include "four.hpp"
#include "proxconnect.h"
#include "scratch.hpp"
#include "sizes.hpp"
#include "weight_only.hpp"

namespace proxconnect {

// Sixteen outputs of a weight lie together: for each step of 64 entries, four entries of every output at a time, and
// after the last step 128 times each output's sum.
constexpr int64_t BLOCK = 16, STEP = 64, STEP_BYTES = BLOCK * STEP, TOTALS_BYTES = BLOCK * sizeof(int32_t);
constexpr int64_t BLOCKS = 4, TILE = BLOCKS * BLOCK;  // at once

// Up to 64 entries of a row: where they lie, in bytes from its begin, and how many times four they are.
struct Stretch {
    int64_t at, fours;
};

// Rows of bytes, `stride` apart. Whole steps of whole tiles of 16 rows may be read; entries beyond the last meet a weight
// of 0. The numbers of row r are multiplied by quantum[r · apart].
struct ByteRows {
    const uint8_t* x;
    int64_t count, stride;
    const Stretch* steps;
    int64_t step_count;
    const float* quantum;
    int64_t apart;
};

// Blocks [first, last) of a weight of n outputs; y has rows and outputs so many floats apart, outputs 1 or rows 1.
struct ByteOutputs {
    const int8_t* panels;
    int64_t first, last, n;
    Affine affine;
    float* y;
    int64_t row_stride, output_stride;
};

struct Int8Kernels {
    // Entries as 128 + the nearest whole number to x·inverse, which is within ±127.
    void (*round)(const float* x, int64_t count, float inverse, uint8_t* to);
    void (*multiply)(const ByteRows& rows, const ByteOutputs& outputs);
};

extern const Int8Kernels portable_int8;
#if defined(__x86_64__)
extern const Int8Kernels avx2_int8, avx512_int8;
#endif

// Nameless, so that each instruction set keeps its own copy of what follows.
namespace {

constexpr int64_t block_bytes(int64_t steps) { return steps * STEP_BYTES + TOTALS_BYTES; }

inline void round_bytes(const float* x, int64_t count, float inverse, uint8_t* to) {
    for (int64_t i = 0; i < count; ++i) {
        const float whole = x[i] * inverse + TO_WHOLE;
        uint32_t bits;
        std::memcpy(&bits, &whole, sizeof bits);
        to[i] = static_cast<uint8_t>(bits + 128);
    }
}

// What the outputs of a tile are scaled and shifted by, 0 beyond the last.
struct alignas(64) TileAffine {
    int32_t totals[TILE] = {};
    float scale[TILE], bias[TILE] = {};

    TileAffine(const ByteOutputs& o, int64_t block, int64_t blocks, int64_t steps) {
        const int64_t at = block * BLOCK, count = least(blocks * BLOCK, o.n - at);
        for (int64_t i = 0; i < blocks; ++i) {
            const int8_t* const behind = o.panels + (block + i) * block_bytes(steps) + steps * STEP_BYTES;
            std::memcpy(totals + i * BLOCK, behind, TOTALS_BYTES);
        }
        for (int64_t i = 0; i < TILE; ++i) scale[i] = o.affine.scales == 1 ? *o.affine.scale : 1.0f;
        const size_t bytes = static_cast<size_t>(count) * sizeof(float);
        if (o.affine.scales > 1) std::memcpy(scale, o.affine.scale + at, bytes);
        if (o.affine.bias != nullptr) std::memcpy(bias, o.affine.bias + at, bytes);
    }
};

template <int N>
struct Lanes {
    typedef int32_t Ints __attribute__((vector_size(4 * N)));
    typedef float Floats __attribute__((vector_size(4 * N)));
};

template <int LANES>
struct TileOutputs {
    using Ints = typename Lanes<LANES>::Ints;
    using Floats = typename Lanes<LANES>::Floats;

    template <class Vector>
    static Vector loaded(const void* from) {
        Vector v;
        std::memcpy(&v, from, sizeof v);
        return v;
    }

    static Floats scaled(const int32_t* sums, float quantum, const TileAffine& affine, int64_t c) {
        const Ints exact = loaded<Ints>(sums + c) - loaded<Ints>(affine.totals + c);
        const Floats values = __builtin_convertvector(exact, Floats) * quantum;
        return values * loaded<Floats>(affine.scale + c) + loaded<Floats>(affine.bias + c);
    }

    // One row of sums as outputs.
    static void scale(const int32_t* sums, float quantum, const TileAffine& affine, int64_t count, float* to) {
        int64_t c = 0;
        for (; c + LANES <= count; c += LANES) {
            const Floats values = scaled(sums, quantum, affine, c);
            std::memcpy(to + c, &values, sizeof values);
        }
        if (c == count) return;
        const Floats values = scaled(sums, quantum, affine, c);
        std::memcpy(to + c, &values, static_cast<size_t>(count - c) * sizeof(float));
    }

    static void put(const ByteRows& rows, const int32_t* sums, const TileAffine& affine, int64_t count, float* y,
                    int64_t row_stride) {
        for (int64_t r = 0; r < rows.count; ++r, sums += TILE, y += row_stride) {
            scale(sums, rows.quantum[r * rows.apart], affine, count, y);
        }
    }

    // The same where the rows of an output follow each other: sixteen of them, which fill a line of the cache, then the
    // next output's.
    static void put_planes(const ByteRows& rows, const int32_t* sums, const TileAffine& affine, int64_t count, float* y,
                           int64_t output_stride) {
        alignas(64) float values[16 * TILE] = {};
        for (int64_t r = 0; r < rows.count; r += 16, y += 16) {
            const int64_t here = least(16, rows.count - r);
            for (int64_t i = 0; i < here; ++i) {
                scale(sums + (r + i) * TILE, rows.quantum[(r + i) * rows.apart], affine, TILE, values + i * TILE);
            }
            for (int64_t c = 0; c < count; c += 4) {
                for (int64_t i = 0; i < here; i += 4) {
                    Four v[4];
                    for (int64_t k = 0; k < 4; ++k) v[k] = *reinterpret_cast<const Four*>(values + (i + k) * TILE + c);
                    transpose(v);
                    put_four(v, least(4, here - i), least(4, count - c), y + c * output_stride + i, output_stride);
                }
            }
        }
    }

    static void put_four(const Four (&v)[4], int64_t pixels, int64_t outputs, float* y, int64_t output_stride) {
        if (pixels == 4 && outputs == 4) {
            for (int64_t i = 0; i < 4; ++i) *reinterpret_cast<AnyFour*>(y + i * output_stride) = v[i];
            return;
        }
        for (int64_t i = 0; i < outputs; ++i) {
            for (int64_t k = 0; k < pixels; ++k) y[i * output_stride + k] = v[i][k];
        }
    }
};

// Set::add makes sums of all rows, TILE apart, with so many blocks of the weight.
template <class Set>
void multiply_bytes(const ByteRows& rows, const ByteOutputs& o) {
    const int64_t whole = ceil_div(rows.count, BLOCK) * BLOCK;
    auto* const sums = static_cast<int32_t*>(scratch<ByteRows>(whole * TILE * static_cast<int64_t>(sizeof(int32_t))));
    for (int64_t block = o.first; block < o.last; block += BLOCKS) {
        const int64_t blocks = least(BLOCKS, o.last - block), at = block * BLOCK;
        Set::add(rows, o.panels + block * block_bytes(rows.step_count), blocks, sums);
        const TileAffine affine(o, block, blocks, rows.step_count);
        const int64_t count = least(blocks * BLOCK, o.n - at);
        float* const y = o.y + at * o.output_stride;
        if (o.output_stride == 1) TileOutputs<Set::LANES>::put(rows, sums, affine, count, y, o.row_stride);
        else TileOutputs<Set::LANES>::put_planes(rows, sums, affine, count, y, o.output_stride);
    }
}

}  // namespace
}  // namespace proxconnect
