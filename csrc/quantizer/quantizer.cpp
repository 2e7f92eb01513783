// The quantizer's rows of latents, shared out to the threads.
#include "isa/kernels.hpp"
#include "runtime/status.hpp"
#include "runtime/threads.hpp"

using namespace proxconnect;

namespace {

int64_t rows_of(int64_t entries, int64_t columns) { return columns == 0 ? 0 : (entries + columns - 1) / columns; }

}  // namespace

int32_t px_quantize(int32_t isa, int32_t is_bfloat16, int32_t curve, int32_t is_unit, float mu, int64_t entries,
                    int64_t columns, const void* x, void* y, float* statistics, uint8_t* inside, int32_t threads) {
    const Kernels* kernels = kernels_of(isa);
    if (kernels == nullptr) return LACKS_INSTRUCTIONS;
    const int64_t rows = rows_of(entries, columns);
    float* const factors = statistics == nullptr ? nullptr : statistics + rows;
    const Quantization q = {is_bfloat16, curve, is_unit, mu, entries, columns, x, y, statistics, factors, inside};
    return status_of([&] {
        in_parallel(rows, 1, entries < LATENTS_WORTH_A_THREAD ? 1 : threads,
                    [&](int64_t first, int64_t last) { kernels->quantize(q, first, last); });
        return DONE;
    });
}

int32_t px_quantize_backward(int32_t isa, int32_t is_bfloat16, int32_t derivative, float mu, int64_t entries,
                             int64_t columns, const void* x, const void* g, const float* statistics,
                             const uint8_t* inside, void* y, int32_t threads) {
    const Kernels* kernels = kernels_of(isa);
    if (kernels == nullptr) return LACKS_INSTRUCTIONS;
    const int64_t rows = rows_of(entries, columns);
    const float* const factors = statistics == nullptr ? nullptr : statistics + rows;
    const Slope s = {is_bfloat16, derivative, mu, entries, columns, x, g, statistics, factors, inside, y};
    return status_of([&] {
        in_parallel(rows, 1, entries < LATENTS_WORTH_A_THREAD ? 1 : threads,
                    [&](int64_t first, int64_t last) { kernels->slope(s, first, last); });
        return DONE;
    });
}
