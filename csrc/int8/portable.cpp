// Any machine: one entry after the other.
#include <cmath>

#include "int8/inputs.hpp"
#include "int8/outputs.hpp"

namespace proxconnect {
namespace {

struct Plain {
    static constexpr int outputs = 4;

    static Vectors<outputs>::Floats fma(Vectors<outputs>::Floats a, Vectors<outputs>::Floats b,
                                        Vectors<outputs>::Floats c) {
        for (int i = 0; i < outputs; ++i) c[i] = std::fma(a[i], b[i], c[i]);
        return c;
    }

    static void put_pixels(const Words<Plain>& words, int64_t channels, int64_t count, uint8_t* to) {
        put_words<Plain>(words, count, channels, channels, to);
    }

    static void add(const ByteRows& rows, const int8_t* panels, int64_t blocks, int32_t* sums) {
        for (int64_t r = 0; r < rows.count; ++r) {
            for (int64_t i = 0; i < blocks; ++i) {
                const int8_t* weight = panels + i * block_bytes(rows.step_count);
                uint32_t of_row[BLOCK] = {};  // which may pass 2^31 before what is too much is subtracted
                for (int64_t j = 0; j < rows.step_count; ++j) {
                    const Stretch step = rows.steps[j];
                    const uint8_t* const x = rows.x + r * rows.stride + step.at;
                    for (int64_t k = 0; k < step.fours; ++k) add_four(x + 4 * k, weight + 4 * k * BLOCK, of_row);
                    weight += STEP_BYTES;
                }
                std::memcpy(sums + r * TILE + i * BLOCK, of_row, sizeof of_row);
            }
        }
    }

    static void add_four(const uint8_t* x, const int8_t* weight, uint32_t* sums) {
        for (int64_t n = 0; n < BLOCK; ++n) {
            int32_t sum = 0;
            for (int64_t k = 0; k < 4; ++k) sum += x[k] * weight[4 * n + k];
            sums[n] += static_cast<uint32_t>(sum);
        }
    }
};

}  // namespace

const Int8Kernels portable_int8 = {
    round_bytes, round_planes<Plain>, mean<Plain>,      multiply_bytes<Plain>,
    Plain::add,   finish_sums<Plain>,  pool_sums<Plain>, nullptr,
};

}  // namespace proxconnect
