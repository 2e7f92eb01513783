// Products of bytes with bytes, of layers whose weights are whole numbers within ±127: what their kernels are given.
// inputs.hpp has what they do before they multiply, outputs.hpp what becomes of the sums. Rows are rounded as those of
// float_sign/kernels.hpp, but lie as q + 128, since the instructions that multiply bytes take one side without a sign:
// 128 times the sum of a row of the weight is subtracted afterwards.
#pragma once

#include <cstdint>
#include <cstring>

#include "float_sign/kernels.hpp"
#include "isa/kernels.hpp"
#include "runtime/sizes.hpp"

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

// Blocks [first, last) of a weight of n outputs; y has rows and outputs so many floats apart, outputs 1 or rows 1. Or
// `then`, if not null, says what sums become and where rows go.
struct ByteOutputs {
    const int8_t* panels;
    int64_t first, last, n;
    Affine affine;
    float* y;
    int64_t row_stride, output_stride;
    const Outputs* then = nullptr;
};

// What of a window meets the image: pixels and rows lie so far apart, the channels of a pixel follow each other.
struct MeanWindow {
    int64_t rows, columns, channels, row_stride, pixel_stride;
};

struct Int8Kernels {
    // Entries as 128 + the nearest whole number to x·inverse, which is within ±127.
    void (*round)(const float* x, int64_t count, float inverse, uint8_t* to);
    // The same of planes, which so lie apart: `count` pixels, of which each becomes `channels` bytes.
    void (*round_planes)(const float* x, int64_t channels, int64_t apart, int64_t count, float inverse, uint8_t* to);
    // The means of `channels` floats under one window: `rows` · `columns` pixels, so far apart.
    void (*mean)(const float* x, const MeanWindow& window, float* to);
    void (*multiply)(const ByteRows& rows, const ByteOutputs& outputs);
    // The same in two halves, for up to four blocks of the weight: the sums of all rows, TILE apart, in memory of whole
    // tiles of 16; and from such sums the outputs of blocks [first, last), which take the steps.
    void (*add)(const ByteRows& rows, const int8_t* panels, int64_t blocks, int32_t* sums);
    void (*finish)(const ByteRows& rows, const ByteOutputs& outputs, const int32_t* sums);
    // The largest sums under the windows of one row, TILE of each pixel, after the bits of `flips` have changed.
    void (*pool)(const int32_t* const* rows, int64_t count, const Window& window, const int32_t* flips, int32_t* to);
    // Said before and after many of these in one thread; null where it makes no difference.
    void (*hold)(bool holds);
};

// While this lasts, what this thread multiplies by stays ready.
class Held {
  public:
    explicit Held(const Int8Kernels& kernels) : kernels_(kernels) {
        if (kernels_.hold != nullptr) kernels_.hold(true);
    }
    Held(const Held&) = delete;
    ~Held() {
        if (kernels_.hold != nullptr) kernels_.hold(false);
    }

  private:
    const Int8Kernels& kernels_;
};

extern const Int8Kernels portable_int8;
#if defined(__x86_64__)
extern const Int8Kernels avx2_int8, avx512_int8, amx_int8;
#endif

// Nameless, so that each instruction set keeps its own copy of what follows.
namespace {

constexpr int64_t block_bytes(int64_t steps) { return steps * STEP_BYTES + TOTALS_BYTES; }

}  // namespace
}  // namespace proxconnect
