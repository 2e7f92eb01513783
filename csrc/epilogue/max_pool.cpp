// Epilogue steps and max pooling, row by row, so that intermediate rows stay in the cache.
#include "epilogue/outputs_of.hpp"
#include "epilogue/pooled_rows.hpp"
#include "runtime/status.hpp"
#include "runtime/threads.hpp"

using namespace proxconnect;

int32_t px_finish_max_pool2d(int32_t isa, const float* x, int64_t batch, int64_t channels, const Window* window,
                             const Fused* fused, float* y, int32_t threads) {
    return status_of(isa, [&](const Kernels& kernels) {
        const Window& w = *window;
        const Outputs outputs = outputs_of(*fused, channels, nullptr, nullptr);
        const int64_t row_size = w.size[1] * channels, in_size = w.size[0] * row_size;
        const int64_t height = w.out_size[0], out_size = height * w.out_size[1] * channels;
        const int32_t workers = threads_for(1.0 * batch * in_size, LATENTS_WORTH_A_THREAD, threads);
        in_parallel(batch * height, 1, workers, [&](int64_t begin, int64_t end) {
            for (int64_t last; begin < end; begin = last) {
                const int64_t image = begin / height, first = begin % height;
                last = least(end, (image + 1) * height);
                const auto finish = [&](int64_t row, float* place) {
                    Outputs here = outputs;
                    here.y = place;
                    kernels.finish(x + image * in_size + row * row_size, here, 0, row_size);
                };
                pool_floats(kernels, w, channels, first, first + last - begin, finish, y + image * out_size);
            }
        });
        return DONE;
    });
}
