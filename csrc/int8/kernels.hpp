// Int8 products, of layers with 8-bit weights: the arguments of the kernels. inputs.hpp has the work before a product,
// outputs.hpp the work after. Rows are rounded as in float_sign/kernels.hpp, but stored as q + 128, because the
// instructions that multiply bytes take one unsigned side. 128 times the sum of a row of the weight is subtracted
// afterwards.
#pragma once

#include <cstdint>
#include <cstring>

#include "float_sign/kernels.hpp"
#include "isa/kernels.hpp"
#include "runtime/sizes.hpp"

namespace proxconnect {

// Sixteen outputs of a weight are stored together: for each step of 64 entries, four entries of every output at a time,
// and after the last step 128 times each output's sum.
constexpr int64_t BLOCK = 16, STEP = 64, STEP_BYTES = BLOCK * STEP, TOTALS_BYTES = BLOCK * sizeof(int32_t);
constexpr int64_t BLOCKS = 4, TILE = BLOCKS * BLOCK;  // at once

// Up to 64 entries of a row: their offset in bytes, and the number of groups of four.
struct Stretch {
    int64_t at, fours;
};

// Rows of bytes, `stride` apart. Whole steps of whole tiles of 16 rows may be read; entries beyond the last meet a
// weight of 0. The numbers of row r are multiplied by quantum[r · apart].
struct ByteRows {
    const uint8_t* x;
    int64_t count, stride;
    const Stretch* steps;
    int64_t step_count;
    const float* quantum;
    int64_t apart;
};

// Blocks [first, last) of a weight of n outputs, which are channels from `channel` on. Row r becomes row then.first + r.
struct ByteOutputs {
    const int8_t* panels;
    int64_t first, last, n;
    Outputs then;
    int64_t channel = 0;
};

// The part of a window inside the image. Pixels and rows are this far apart; the channels of a pixel are adjacent.
struct MeanWindow {
    int64_t rows, columns, channels, row_stride, pixel_stride;
};

// Sum all rows with up to four blocks of a weight. Sums are TILE apart, in memory of whole tiles of 16 rows.
using AddBytes = void(const ByteRows& rows, const int8_t* panels, int64_t blocks, int32_t* sums);

struct Int8Kernels {
    // Round entries to 128 + the nearest whole number to x·inverse, which is within ±127.
    void (*round)(const float* x, int64_t count, float inverse, uint8_t* to);
    // The same for planes that are `apart` floats apart: `count` pixels become `channels` bytes each.
    void (*round_planes)(const float* x, int64_t channels, int64_t apart, int64_t count, float inverse, uint8_t* to);
    // Average `channels` floats over one window of `rows` · `columns` pixels.
    void (*mean)(const float* x, const MeanWindow& window, float* to);
    AddBytes* add;
    // Make outputs of such sums for blocks [first, last), and apply the steps.
    void (*finish)(const ByteRows& rows, const ByteOutputs& outputs, const int32_t* sums);
    // Find the largest sums under the windows of one row, TILE for each pixel, after flipping the bits of `flips`.
    void (*pool)(const int32_t* const* rows, int64_t count, const Window& window, const int32_t* flips, int32_t* to);
    // Call before and after many products in one thread. Null if it makes no difference.
    void (*hold)(bool holds);
};

// The forms of `add`. AVX2's takes one of two, the second if the processor has AVX-VNNI.
AddBytes add_bytes, add_by_avx2, add_pairs, add_by_avx_vnni, add_by_avx512, add_by_tiles, add_by_dot_products;

// Multiply rows by any number of blocks.
void multiply_bytes(const Int8Kernels& kernels, const ByteRows& rows, const ByteOutputs& outputs);

// Keeps the tiles of this thread, if any, configured for its lifetime.
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

// In an unnamed namespace, so that each instruction set keeps its own copy.
namespace {

constexpr int64_t block_bytes(int64_t steps) { return steps * STEP_BYTES + TOTALS_BYTES; }

}  // namespace
}  // namespace proxconnect
