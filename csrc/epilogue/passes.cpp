// Passes over floats without a product: epilogue steps, max pools, layer norms and means over all pixels.
#include "epilogue/outputs_of.hpp"
#include "epilogue/pixel_means.hpp"
#include "epilogue/pooled_rows.hpp"
#include "runtime/status.hpp"
#include "runtime/threads.hpp"

using namespace proxconnect;

namespace {

// Call work(begin, end) for parts of `count` pieces, which hold `floats` floats in all.
Status share(int64_t count, double floats, int32_t threads, const Work& work) {
    in_parallel(count, 1, threads_for(floats, LATENTS_WORTH_A_THREAD, threads), work);
    return DONE;
}

}  // namespace

int32_t px_finish(int32_t isa, const float* x, int64_t m, int64_t channels, const Fused* fused,
                  const float* const* others, float* y, int32_t threads) {
    return status_of(isa, [&](const Kernels& kernels) {
        const Outputs outputs = outputs_of(*fused, channels, others, y);
        return share(m, 1.0 * m * channels, threads, [&](int64_t begin, int64_t end) {
            kernels.finish(x, outputs, begin * channels, end * channels);
        });
    });
}

// Row by row, so that intermediate rows stay in the cache.
int32_t px_finish_max_pool2d(int32_t isa, const float* x, int64_t batch, int64_t channels, const Window* window,
                             const Fused* fused, float* y, int32_t threads) {
    return status_of(isa, [&](const Kernels& kernels) {
        const Window& w = *window;
        const Outputs outputs = outputs_of(*fused, channels, nullptr, nullptr);
        const int64_t row_size = w.size[1] * channels, in_size = w.size[0] * row_size, height = w.out_size[0];
        const int64_t out_size = height * w.out_size[1] * channels;
        return share(batch * height, 1.0 * batch * in_size, threads, [&](int64_t begin, int64_t end) {
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
    });
}

int32_t px_layer_norm(int32_t isa, const float* x, int64_t m, const LayerNorm* norm, float* y, int32_t threads) {
    return status_of(isa, [&](const Kernels& kernels) {
        return share(m, 1.0 * m * norm->width, threads, [&](int64_t first, int64_t last) {
            kernels.layer_norm(x, *norm, first, last, y);
        });
    });
}

int32_t px_pixel_means(int32_t isa, const float* x, int64_t batch, int64_t pixels, int64_t channels, float* y,
                       int32_t threads) {
    return status_of(isa, [&](const Kernels& kernels) {
        const int64_t blocks = channels / MEANS_AT_ONCE;
        return share(batch * blocks, 1.0 * batch * pixels * channels, threads, [&](int64_t first, int64_t last) {
            for (; first < last; ++first) {
                const int64_t image = first / blocks, channel = first % blocks * MEANS_AT_ONCE;
                kernels.pixel_means(x + image * pixels * channels + channel, pixels, channels,
                                    y + image * channels + channel);
            }
        });
    });
}
