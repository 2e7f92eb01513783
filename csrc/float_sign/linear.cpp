// Weight-only Linear: round rows if asked, then share them among threads.
#include "float_sign/kernels.hpp"

#include <cmath>

#include "epilogue/outputs_of.hpp"
#include "runtime/row_blocks.hpp"
#include "runtime/status.hpp"
#include "runtime/threads.hpp"

namespace proxconnect {

Quantum quantum_of(uint32_t largest) {
    constexpr float LEAST = 0x1p-100f;  // 127 divided by less might be infinite
    float most;
    std::memcpy(&most, &largest, sizeof most);
    most = most > LEAST ? most : LEAST;
    return largest < 0x7f800000 ? Quantum{127.0f / most, most / 127.0f} : Quantum{0.0f, NAN};
}

void take_steps(const Kernels& kernels, int64_t rows, const FloatOutputs& o) {
    const int64_t first = o.first * PANEL, last = least(o.n, o.last * PANEL);
    for (int64_t r = 0; r < (o.then.step_count == 0 ? 0 : rows); ++r) {
        const int64_t row = row_of(o, r) - o.then.y;
        kernels.finish(o.then.y, o.then, row + first, row + last);
    }
}

}  // namespace proxconnect

using namespace proxconnect;

namespace {

// Multiply a block of rows. Each thread has a stripe of the rows, and a column of the outputs if there are few rows:
// tables are made again for every column.
void multiply_block(const WeightOnlyKernels& kernels, const FloatRows& rows, const FloatOutputs& outputs,
                    int32_t threads) {
    constexpr int64_t FEW = 8, PANELS = 8;  // rows for each thread, and panels of a column
    const int64_t m = rows.count, blocks = most(1, ceil_div(outputs.last - outputs.first, PANELS));
    const int64_t parts = most(1, threads_for(1.0 * m * outputs.n * rows.entries, FLOATS_WORTH_A_THREAD, threads));
    const int64_t columns = m >= FEW * parts ? 1 : least(blocks, parts), stripes = least(m, parts / columns);
    in_parallel(columns * stripes, 1, threads, [&](int64_t begin, int64_t end) {
        for (int64_t part = begin; part < end; ++part) {
            const int64_t column = part / stripes, stripe = part % stripes, row = m * stripe / stripes;
            FloatRows mine = from_row(rows, row);
            mine.count = m * (stripe + 1) / stripes - row;
            FloatOutputs to = from_row(outputs, row);
            to.first = outputs.first + blocks * column / columns * PANELS;
            to.last = least(outputs.first + blocks * (column + 1) / columns * PANELS, outputs.last);
            kernels.multiply(mine, to);
        }
    });
}

// The most memory that a kernel keeps for a row: bytes, or a flag in amx.cpp.
int64_t bytes_of_row(const FloatRows& rows) { return rows.rounds ? words_of(rows.entries) * 64 : 1; }

}  // namespace

void proxconnect::multiply_by_signs(const Kernels& kernels, const FloatRows& rows, const FloatOutputs& outputs,
                                    int32_t threads) {
    if (suits_bytes(kernels, rows, outputs)) return multiply_as_bytes(kernels, rows, outputs, threads);
    in_row_blocks(rows.count, bytes_of_row(rows), [&](int64_t begin, int64_t end) {
        FloatRows mine = from_row(rows, begin);
        mine.count = end - begin;
        multiply_block(*kernels.weight_only, mine, from_row(outputs, begin), threads);
    });
}

int32_t px_weight_only_linear(int32_t isa, int32_t rounds, const float* x, int64_t m, int64_t entries, int64_t stride,
                              const uint64_t* panels, int64_t n, const Fused* fused, const float* const* others,
                              float* y, int32_t threads) {
    return status_of(isa, [&](const Kernels& kernels) {
        const Outputs then = outputs_of(*fused, n, others, y);
        const FloatOutputs outputs = {panels, 0, panels_of(n), n, then};
        multiply_by_signs(kernels, {x, m, entries, stride, rounds != 0}, outputs, threads);
        return DONE;
    });
}
