// Convolutions in one pass with means before and steps and a pool after, for any product.
#pragma once

#include "epilogue/image_means.hpp"
#include "epilogue/planes.hpp"
#include "epilogue/pooled_rows.hpp"

namespace proxconnect {

// The arguments of the entry points. x is laid out by `geometry`, the convolved image by `g`.
struct FusedImages {
    const Kernels& kernels;
    const float* x;
    const Window* mean;
    const Geometry& geometry;
    Outputs then;
    const Window* pool;
    int32_t threads;
    Geometry g = mean == nullptr ? geometry : of_means(geometry);
};

namespace {

// Compute rows [begin, end) of the pooled image at `to`, by pooling floats after all steps.
template <class Product>
void pool_outputs(const Product& product, const Kernels& kernels, const Geometry& g, const Window& pool, int64_t begin,
                  int64_t end, const Outputs& then, float* to) {
    const auto convolve_row = [&](int64_t row, float* place) {
        Outputs here = then;
        here.y = place;
        product.run(row * g.out_size[1], (row + 1) * g.out_size[1], here);
    };
    pool_floats(kernels, pool, g.out_channels, begin, end, convolve_row, to);
}

// Computes rows [begin, end) of the pooled image that begins at `to`, or returns false if pooling outputs is as fast.
using RunPooled = std::function<bool(int64_t begin, int64_t end, float* to)>;

// Product has: GRAIN, the least number of pixels for a thread; take(x, threads), which prepares an image, or returns
// false; and run(begin, end, then), which computes output pixels of that image, the first at the begin of `then`.
template <class Product>
Status convolve(const FusedImages& images, Product& product, const RunPooled& run_pooled = nullptr) {
    const Geometry& g = images.g;
    const Outputs& then = images.then;
    const Window* const pool = images.pool;
    const int64_t n = g.out_channels, pixels = g.out_size[0] * g.out_size[1];
    const double work = 1.0 * pixels * n * g.kernel[0] * g.kernel[1] * (g.channels / g.groups);
    const int32_t threads = threads_for(work, FLOATS_WORTH_A_THREAD, images.threads);
    for (int64_t k = 0; k < g.batch; ++k) {
        const float* from = images.x + k * g.image_stride;
        if (images.mean != nullptr) from = Means{*images.kernels.int8, images.geometry, *images.mean}.of(from, threads);
        if (!product.take(from, threads)) return NOT_TAKEN;
        if (pool == nullptr) {
            in_parallel(pixels, Product::GRAIN, threads, [&](int64_t begin, int64_t end) {
                const Held held(*images.kernels.int8);
                Outputs all = then;
                all.first = k * pixels;
                const auto run = [&](int64_t first, int64_t last) {
                    write_pixels(g, all, first, last, [&](Outputs to) {
                        to.first += first;
                        product.run(first, last, to);
                    });
                };
                g.has_planes ? in_bands(g, begin, end, run) : run(begin, end);
            });
            continue;
        }
        float* const to = then.y + k * pool->out_size[0] * pool->out_size[1] * n;
        in_parallel(pool->out_size[0], 1, threads, [&](int64_t begin, int64_t end) {
            const Held held(*images.kernels.int8);
            if (run_pooled && run_pooled(begin, end, to)) return;
            pool_outputs(product, images.kernels, g, *pool, begin, end, then, to);
        });
    }
    return DONE;
}

}  // namespace
}  // namespace proxconnect
