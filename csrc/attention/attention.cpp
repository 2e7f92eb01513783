// Attention: softmax(scale · Q Kᵀ) V of each head.
#include <atomic>

#include "attention/heads.hpp"
#include "isa/kernels.hpp"
#include "runtime/status.hpp"
#include "runtime/threads.hpp"

using namespace proxconnect;

PROXCONNECT_API int32_t px_attention(int32_t isa, const float* q, const float* k, const float* v,
                                     const Attention* attention, float* y, int32_t threads) {
    return status_of(isa, [&](const Kernels& kernels) {
        if (kernels.attention == nullptr) return LACKS_INSTRUCTIONS;
        const Heads heads = {q, k, v, *attention, y, kernels.attention->queries_at_once};
        constexpr int64_t PRODUCTS_WORTH_A_THREAD = 1 << 20;
        const int64_t bands = attention->batch * attention->heads * bands_of(heads);
        const double products = 1.0 * bands * heads.queries_at_once * attention->keys * attention->width;
        const int32_t workers = threads_for(products, PRODUCTS_WORTH_A_THREAD, threads);
        std::atomic<bool> is_done{true};
        in_parallel(bands, 1, workers, [&](int64_t first, int64_t last) {
            if (!kernels.attention->attend(heads, first, last)) is_done = false;
        });
        return is_done ? DONE : NOT_TAKEN;
    });
}
