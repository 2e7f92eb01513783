// Any machine: one entry after the other.
#include "int8/kernels.hpp"

namespace proxconnect {
namespace {

void add_four(const uint8_t* x, const int8_t* weight, uint32_t* sums) {
    for (int64_t n = 0; n < BLOCK; ++n) {
        int32_t sum = 0;
        for (int64_t k = 0; k < 4; ++k) sum += x[k] * weight[4 * n + k];
        sums[n] += static_cast<uint32_t>(sum);
    }
}

}  // namespace

void add_bytes(const ByteRows& rows, const int8_t* panels, int64_t blocks, int32_t* sums) {
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

}  // namespace proxconnect
