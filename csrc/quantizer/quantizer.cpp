// The quantizer of training: share the rows of latents among threads.
#include "isa/kernels.hpp"
#include "runtime/status.hpp"
#include "runtime/threads.hpp"

using namespace proxconnect;

namespace {

int64_t rows_of(int64_t entries, int64_t columns) { return columns == 0 ? 0 : (entries + columns - 1) / columns; }

// Share the rows of latents, or of gradients.
template <class Work>
Status share_rows(int64_t entries, int64_t columns, int32_t threads, const Work& work) {
    in_parallel(rows_of(entries, columns), 1, entries < LATENTS_WORTH_A_THREAD ? 1 : threads, work);
    return DONE;
}

}  // namespace

int32_t px_quantize(int32_t isa, int32_t is_bfloat16, int32_t curve, int32_t is_unit, float mu, int64_t entries,
                    int64_t columns, const void* x, void* y, float* statistics, uint8_t* inside, int32_t threads) {
    return status_of(isa, [&](const Kernels& kernels) {
        float* const factors = statistics == nullptr ? nullptr : statistics + rows_of(entries, columns);
        const Quantization q = {is_bfloat16, curve, is_unit, mu, entries, columns, x, y, statistics, factors, inside};
        return share_rows(entries, columns, threads, [&](int64_t first, int64_t last) {
            kernels.quantize(q, first, last);
        });
    });
}

int32_t px_quantize_backward(int32_t isa, int32_t is_bfloat16, int32_t derivative, float mu, int64_t entries,
                             int64_t columns, const void* x, const void* g, const float* statistics,
                             const uint8_t* inside, void* y, int32_t threads) {
    return status_of(isa, [&](const Kernels& kernels) {
        const float* const factors = statistics == nullptr ? nullptr : statistics + rows_of(entries, columns);
        const Slope s = {is_bfloat16, derivative, mu, entries, columns, x, g, statistics, factors, inside, y};
        return share_rows(entries, columns, threads, [&](int64_t first, int64_t last) {
            kernels.slope(s, first, last);
        });
    });
}
