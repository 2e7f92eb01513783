// Rows of floats times whole numbers: each row is rounded by its own step.
#include <vector>

#include "fused.hpp"
#include "int8_entries.hpp"
#include "threads.hpp"

using namespace proxconnect;

namespace {

// Through `affine`, or where `then` is not null as that says.
int32_t multiply(int32_t isa, const float* x, int64_t m, int64_t entries, int64_t stride, const int8_t* panels,
                 int64_t n, const Affine& affine, const Outputs* then, float* y, int32_t threads) {
    const Int8Kernels* const kernels = int8_kernels_of(isa);
    if (kernels == nullptr) return 1;
    const int64_t step_count = ceil_div(entries, STEP), width = step_count * STEP, blocks = ceil_div(n, BLOCK);
    std::vector<float> quantum(static_cast<size_t>(m));
    std::vector<Stretch> steps;
    add_steps(0, entries, steps);
    auto* const bytes = static_cast<uint8_t*>(scratch<Int8Kernels>((m + BLOCK) * width));
    if (m * n * entries < FLOATS_WORTH_A_THREAD) threads = 1;
    in_parallel(m, 1, threads, [&](int64_t begin, int64_t end) {
        for (int64_t r = begin; r < end; ++r) {
            const float* const row = x + r * stride;
            const Quantum found = quantum_of(largest_in(isa, row, entries));
            quantum[static_cast<size_t>(r)] = found.step;
            kernels->round(row, entries, found.inverse, bytes + r * width);
            std::memset(bytes + r * width + entries, 0, static_cast<size_t>(width - entries));
        }
    });
    const auto multiply = [&](int64_t row, int64_t end, int64_t first, int64_t last) {
        const ByteRows rows = {bytes + row * width, end - row, width, steps.data(), step_count, quantum.data() + row, 1};
        if (then == nullptr) return kernels->multiply(rows, {panels, first, last, n, affine, y + row * n, n, 1});
        Outputs here = *then;
        here.first = row;
        kernels->multiply(rows, {panels, first, last, n, {}, nullptr, 0, 0, &here});
    };
    constexpr int64_t ROWS = 128;  // whose sums stay in the second cache
    if (m >= 32 * threads) {
        in_parallel(m, BLOCK, threads, [&](int64_t begin, int64_t end) {
            for (int64_t row = begin; row < end; row += ROWS) multiply(row, least(row + ROWS, end), 0, blocks);
        });
    } else {
        in_parallel(blocks, BLOCKS, threads, [&](int64_t begin, int64_t end) { multiply(0, m, begin, end); });
    }
    return 0;
}

}  // namespace

int32_t px_int8_linear(int32_t isa, const float* x, int64_t m, int64_t entries, int64_t stride, const int8_t* panels,
                       int64_t n, const Affine* affine, float* y, int32_t threads) {
    return multiply(isa, x, m, entries, stride, panels, n, *affine, nullptr, y, threads);
}

int32_t px_fused_int8_linear(int32_t isa, const float* x, int64_t m, int64_t entries, int64_t stride,
                             const int8_t* panels, int64_t n, const Fused* fused, const float* const* others, float* y,
                             int32_t threads) {
    const Outputs then = outputs_of(*fused, n, others, y, nullptr);
    return multiply(isa, x, m, entries, stride, panels, n, {}, &then, y, threads);
}
