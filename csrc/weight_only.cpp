// Floats times signs: rows are rounded if they are to be, then shared out to the threads.
#include "weight_only.hpp"

#include <cmath>
#include <vector>

#include "threads.hpp"

namespace proxconnect {

const WeightOnlyKernels* weight_only_kernels_of(int32_t isa) {
    if (!px_supports(isa)) return nullptr;
    switch (isa) {
#if defined(__x86_64__)
        case AVX2: return &avx2_weight_only;
        case AVX512: return &avx512_weight_only;
#endif
        default: return &portable_weight_only;
    }
}

Quantum quantum_of(uint32_t largest) {
    constexpr float LEAST = 0x1p-100f;  // 127 divided by less might be infinite
    float most;
    std::memcpy(&most, &largest, sizeof most);
    most = most > LEAST ? most : LEAST;
    return largest < 0x7f800000 ? Quantum{127.0f / most, most / 127.0f} : Quantum{0.0f, NAN};
}

void find_quanta(const WeightOnlyKernels& kernels, const FloatRows& rows, float* inverse, float* quantum) {
    for (int64_t r = 0; r < rows.count; ++r) {
        const Quantum found = quantum_of(kernels.largest(rows.x + r * rows.stride, rows.entries));
        inverse[r] = found.inverse, quantum[r] = found.step;
    }
}

}  // namespace proxconnect

using namespace proxconnect;

namespace {

// All rows, split by rows where these are many, else by outputs.
void multiply(const WeightOnlyKernels& kernels, const FloatRows& rows, const Outputs& outputs, int32_t threads) {
    const int64_t m = rows.count;
    if (m == 0) return;
    if (m * outputs.n * rows.entries < FLOATS_WORTH_A_THREAD) threads = 1;
    if (m >= 32 * threads) {
        in_parallel(m, 6, threads, [&](int64_t begin, int64_t end) {
            FloatRows mine = from_row(rows, begin);
            mine.count = end - begin;
            kernels.multiply(mine, from_row(outputs, begin));
        });
    } else {
        in_parallel(outputs.last, 8, threads, [&](int64_t begin, int64_t end) {
            Outputs mine = outputs;
            mine.first = begin, mine.last = end;
            kernels.multiply(rows, mine);
        });
    }
}

}  // namespace

int32_t px_weight_only_linear(int32_t isa, const float* x, int64_t m, int64_t entries, int64_t stride,
                              const uint64_t* panels, int64_t n, const Affine* affine, float* y, int32_t threads) {
    const WeightOnlyKernels* const kernels = weight_only_kernels_of(isa);
    if (kernels == nullptr) return 1;
    multiply(*kernels, {x, m, entries, stride, nullptr, nullptr}, {panels, 0, panels_of(n), n, *affine, y, n}, threads);
    return 0;
}

int32_t px_dynamic_int8_linear(int32_t isa, const float* x, int64_t m, int64_t entries, int64_t stride,
                               const uint64_t* panels, int64_t n, const Affine* affine, float* y, int32_t threads) {
    const WeightOnlyKernels* const kernels = weight_only_kernels_of(isa);
    if (kernels == nullptr) return 1;
    std::vector<float> inverse(static_cast<size_t>(m)), quantum(static_cast<size_t>(m));
    const FloatRows rows = {x, m, entries, stride, inverse.data(), quantum.data()};
    find_quanta(*kernels, rows, inverse.data(), quantum.data());
    multiply(*kernels, rows, {panels, 0, panels_of(n), n, *affine, y, n}, threads);
    return 0;
}
