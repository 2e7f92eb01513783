// Means over all pixels of images.
#include "epilogue/pixel_means.hpp"

#include "isa/kernels.hpp"
#include "runtime/status.hpp"
#include "runtime/threads.hpp"

using namespace proxconnect;

int32_t px_pixel_means(int32_t isa, const float* x, int64_t batch, int64_t pixels, int64_t channels, float* y,
                       int32_t threads) {
    return status_of(isa, [&](const Kernels& kernels) {
        const int64_t blocks = channels / MEANS_AT_ONCE;
        const int32_t workers = threads_for(1.0 * batch * pixels * channels, LATENTS_WORTH_A_THREAD, threads);
        in_parallel(batch * blocks, 1, workers, [&](int64_t first, int64_t last) {
            for (; first < last; ++first) {
                const int64_t image = first / blocks, channel = first % blocks * MEANS_AT_ONCE;
                kernels.pixel_means(x + image * pixels * channels + channel, pixels, channels,
                                    y + image * channels + channel);
            }
        });
        return DONE;
    });
}
