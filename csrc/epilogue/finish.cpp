// Epilogue steps without a product.
#include "epilogue/outputs_of.hpp"
#include "isa/kernels.hpp"
#include "runtime/status.hpp"
#include "runtime/threads.hpp"

using namespace proxconnect;

int32_t px_finish(int32_t isa, const float* x, int64_t m, int64_t channels, const Fused* fused,
                  const float* const* others, float* y, int32_t threads) {
    return status_of(isa, [&](const Kernels& kernels) {
        const Outputs outputs = outputs_of(*fused, channels, others, y);
        const int32_t workers = threads_for(1.0 * m * channels, LATENTS_WORTH_A_THREAD, threads);
        in_parallel(m, 1, workers, [&](int64_t begin, int64_t end) {
            kernels.finish(x, outputs, begin * channels, end * channels);
        });
        return DONE;
    });
}
