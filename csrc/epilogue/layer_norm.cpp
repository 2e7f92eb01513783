// Layer norms of rows.
#include "isa/kernels.hpp"
#include "runtime/status.hpp"
#include "runtime/threads.hpp"

using namespace proxconnect;

int32_t px_layer_norm(int32_t isa, const float* x, int64_t m, const LayerNorm* norm, float* y, int32_t threads) {
    return status_of(isa, [&](const Kernels& kernels) {
        const int32_t workers = threads_for(1.0 * m * norm->width, LATENTS_WORTH_A_THREAD, threads);
        in_parallel(m, 1, workers, [&](int64_t first, int64_t last) {
            kernels.layer_norm(x, *norm, first, last, y);
        });
        return DONE;
    });
}
