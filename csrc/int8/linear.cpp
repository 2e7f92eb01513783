// Int8 Linear of float rows. Each row is rounded by its own step.
#include <vector>

#include "epilogue/outputs_of.hpp"
#include "int8/steps.hpp"
#include "runtime/row_blocks.hpp"
#include "runtime/scratch.hpp"
#include "runtime/status.hpp"
#include "runtime/threads.hpp"

using namespace proxconnect;

namespace {

// Rows of floats, `stride` apart, times a weight of n outputs, through `affine`, or through `then` if it is not null.
struct Int8Product {
    const Kernels& kernels;
    const float* x;
    int64_t entries, stride;
    const int8_t* panels;
    int64_t n;
    Affine affine;
    const Outputs* then;
    float* y;
    int64_t step_count = ceil_div(entries, STEP), width = step_count * STEP;
    std::vector<Stretch> steps = {};

    // Multiply rows [begin, end).
    void run(int64_t begin, int64_t end, int32_t threads) const {
        const int64_t m = end - begin, blocks = ceil_div(n, BLOCK);
        const ByteRows rows = rounded(begin, m, threads);
        constexpr int64_t ROWS = 128;  // whose bytes stay in the second cache
        if (m >= 32 * threads) {
            in_parallel(m, BLOCK, threads, [&](int64_t first, int64_t last) {
                for (int64_t row = first; row < last; row += ROWS) {
                    multiply(rows, row, least(row + ROWS, last), begin, 0, blocks);
                }
            });
        } else {
            in_parallel(blocks, BLOCKS, threads, [&](int64_t first, int64_t last) {
                multiply(rows, 0, m, begin, first, last);
            });
        }
    }

  private:
    // The result lies in memory of this thread until its next call.
    ByteRows rounded(int64_t begin, int64_t m, int32_t threads) const {
        auto* const quantum = static_cast<float*>(scratch<float>(m * static_cast<int64_t>(sizeof(float))));
        auto* const bytes = static_cast<uint8_t*>(scratch<Int8Kernels>((m + BLOCK) * width));
        in_parallel(m, 1, threads, [&](int64_t first, int64_t last) {
            for (int64_t r = first; r < last; ++r) {
                const float* const row = x + (begin + r) * stride;
                const Quantum found = quantum_of(kernels.weight_only->largest(row, entries));
                quantum[r] = found.step;
                kernels.int8->round(row, entries, found.inverse, bytes + r * width);
                std::memset(bytes + r * width + entries, 0, static_cast<size_t>(width - entries));
            }
        });
        return {bytes, m, width, steps.data(), step_count, quantum, 1};
    }

    // Multiply rows [row, end), which become outputs from `begin` + row on, with blocks [first, last).
    void multiply(const ByteRows& all, int64_t row, int64_t end, int64_t begin, int64_t first, int64_t last) const {
        ByteRows rows = all;
        rows.x += row * width, rows.count = end - row, rows.quantum += row;
        if (then == nullptr) {
            return kernels.int8->multiply(rows, {panels, first, last, n, affine, y + (begin + row) * n, n, 1});
        }
        Outputs here = *then;
        here.first = begin + row;
        kernels.int8->multiply(rows, {panels, first, last, n, {}, nullptr, 0, 0, &here});
    }
};

Status multiply(Int8Product product, int64_t m, int32_t threads) {
    add_steps(0, product.entries, product.steps);
    const int64_t bytes_of_row = product.width + static_cast<int64_t>(sizeof(float));
    in_row_blocks(m, bytes_of_row, [&](int64_t begin, int64_t end) {
        const double work = 1.0 * (end - begin) * product.n * product.entries;
        product.run(begin, end, threads_for(work, FLOATS_WORTH_A_THREAD, threads));
    });
    return DONE;
}

}  // namespace

int32_t px_int8_linear(int32_t isa, const float* x, int64_t m, int64_t entries, int64_t stride, const int8_t* panels,
                       int64_t n, const Affine* affine, float* y, int32_t threads) {
    return status_of(isa, [&](const Kernels& kernels) {
        return multiply({kernels, x, entries, stride, panels, n, *affine, nullptr, y}, m, threads);
    });
}

int32_t px_fused_int8_linear(int32_t isa, const float* x, int64_t m, int64_t entries, int64_t stride,
                             const int8_t* panels, int64_t n, const Fused* fused, const float* const* others, float* y,
                             int32_t threads) {
    return status_of(isa, [&](const Kernels& kernels) {
        const Outputs then = outputs_of(*fused, n, others, y, nullptr);
        return multiply({kernels, x, entries, stride, panels, n, {}, &then, y}, m, threads);
    });
}
