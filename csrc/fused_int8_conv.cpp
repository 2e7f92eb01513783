// Images of floats convolved with whole numbers, in one pass with means in front of it and with steps and a pool behind.
#include <cfloat>
#include <cmath>

#include "fused.hpp"
#include "int8_image.hpp"
#include "pooled_rows.hpp"
#include "scratch.hpp"
#include "threads.hpp"

using namespace proxconnect;

namespace {

// Means of the windows of one image, at x, in memory of this thread; `from` says how that lies, window by window.
struct Means {
    const Int8Kernels& kernels;
    const Geometry& from;
    const Window& w;

    const float* of(const float* x, int32_t threads) const {
        const int64_t row = w.out_size[1] * from.channels, size = w.out_size[0] * row;
        auto* const means = static_cast<float*>(scratch<Means>(size * static_cast<int64_t>(sizeof(float))));
        in_parallel(w.out_size[0], 1, threads, [&](int64_t begin, int64_t end) {
            for (int64_t i = begin; i < end; ++i) {
                for (int64_t j = 0; j < w.out_size[1]; ++j) put(x, i, j, means + i * row + j * from.channels);
            }
        });
        return means;
    }

  private:
    void put(const float* x, int64_t i, int64_t j, float* to) const {
        const int64_t top = i * w.stride[0], left = j * w.stride[1];
        MeanWindow met = {least(w.kernel[0], w.size[0] - top), least(w.kernel[1], w.size[1] - left), from.channels,
                          from.row_stride, from.pixel_stride};
        const float* const begin = x + top * from.row_stride + left * from.pixel_stride;
        if (from.channel_stride == 1) return kernels.mean(begin, met, to);
        met.channels = 1;
        for (int64_t c = 0; c < from.channels; ++c) kernels.mean(begin + c * from.channel_stride, met, to + c);
    }
};

// How the means of images lie.
Geometry of_means(Geometry g) {
    g.channel_stride = 1, g.pixel_stride = g.channels, g.row_stride = g.size[1] * g.channels;
    return g;
}

// Whether what becomes of sums of `entries` products keeps or reverses their order, channel by channel, and is finite;
// then `flips` is 0 or all bits for each.
bool keeps_order(const Outputs& then, int64_t entries, float quantum, int32_t* flips) {
    const double largest_sum = 127.0 * 127.0 * static_cast<double>(entries) * static_cast<double>(quantum);
    for (int64_t c = 0; c < then.channels; ++c) {
        const float scale = then.output.scale[c];
        double bound = largest_sum * std::fabs(scale) + std::fabs(then.output.bias[c]);
        double largest = bound;
        bool is_reversed = scale < 0;
        for (const Step* step = then.steps; step < then.steps + then.step_count; ++step) {
            if (step->kind == AFFINE) {
                bound = bound * std::fabs(step->a[c]) + std::fabs(step->b[c]);
                is_reversed ^= step->a[c] < 0;
            } else if (step->kind == SLOPE) {
                if (!(step->a[c] >= 0)) return false;
                bound *= std::fmax(step->a[c], 1.0f);
            }
            largest = std::fmax(largest, bound);
        }
        if (!(largest < FLT_MAX) || std::isnan(bound)) return false;
        flips[c] = is_reversed ? -1 : 0;
    }
    return true;
}

struct FusedConv {
    const Kernels& kernels;
    const Int8Kernels& bytes;
    const Geometry& g;
    const int8_t* panels;

    // Output pixels [begin, end) of an image, the first of which goes to where `then` begins.
    void run(const Patches& patches, const uint8_t* image, const float& quantum, int64_t begin, int64_t end,
             Outputs then) const {
        const int64_t first = then.first - begin, n = g.out_channels;
        patches.each(image, quantum, begin, end, [&](const ByteRows& rows, int64_t pixel) {
            then.first = first + pixel;
            bytes.multiply(rows, {panels, 0, ceil_div(n, BLOCK), n, {}, nullptr, 0, 0, &then});
        });
    }

    void run_pooled(const Patches& patches, const uint8_t* image, const float& quantum, const Window& pool,
                    int64_t begin, int64_t end, const Outputs& then, float* y) const {
        const auto convolve = [&](int64_t row, float* place) {
            Outputs here = then;
            here.y = place;
            run(patches, image, quantum, row * g.out_size[1], (row + 1) * g.out_size[1], here);
        };
        pool_floats(kernels, pool, g.out_channels, begin, end, convolve, y);
    }

    // The same of steps that keep the order of sums, or of their complements where `flips` is all bits: sums are pooled,
    // and what is left of them takes the steps.
    void pool_sums(const Patches& patches, const uint8_t* image, const float& quantum, const Window& pool,
                   const int32_t* flips, int64_t begin, int64_t end, Outputs then, float* y) const {
        const int64_t n = g.out_channels, width = g.out_size[1], blocks = ceil_div(n, BLOCK), steps = patches.steps();
        auto* const largest = static_cast<int32_t*>(scratch<FusedConv>(pool.out_size[1] * TILE * 4));
        then.y = y;
        for (int64_t block = 0; block < blocks; block += BLOCKS) {
            const int64_t last = least(block + BLOCKS, blocks);
            const auto convolve = [&](int64_t row, int32_t* place) {
                patches.each(image, quantum, row * width, (row + 1) * width, [&](const ByteRows& rows, int64_t pixel) {
                    int32_t* const to = place + (pixel - row * width) * TILE;
                    bytes.add(rows, panels + block * block_bytes(steps), last - block, to);
                });
            };
            pool_rows<int32_t>(
                pool, ceil_div(width, BLOCK) * BLOCK * TILE, begin, end, convolve,
                [&](const int32_t* const* rows, int64_t count, int64_t row) {
                    bytes.pool(rows, count, pool, flips + block * BLOCK, largest);
                    then.first = row * pool.out_size[1];
                    const ByteRows pooled = {nullptr, pool.out_size[1], 0, nullptr, steps, &quantum, 0};
                    bytes.finish(pooled, {panels, block, last, n, {}, nullptr, 0, 0, &then}, largest);
                });
        }
    }
};

}  // namespace

int32_t px_fused_int8_conv2d(int32_t isa, const float* x, const Window* mean, const Geometry* geometry,
                             const int8_t* panels, const Fused* fused, const float* const* others, const Window* pool,
                             float* y, int32_t threads) {
    const Int8Kernels* const bytes = int8_kernels_of(isa);
    if (bytes == nullptr) return 1;
    const Kernels& kernels = *kernels_of(isa);
    const Geometry g = mean == nullptr ? *geometry : of_means(*geometry);
    const ByteImage image{g};
    const Patches patches(image);
    const FusedConv conv = {kernels, *bytes, g, panels};
    const int64_t n = g.out_channels, pixels = g.out_size[0] * g.out_size[1];
    if (pixels * n * g.kernel[0] * g.kernel[1] * g.channels < FLOATS_WORTH_A_THREAD) threads = 1;
    const Outputs then = outputs_of(*fused, n, others, y, nullptr);
    std::vector<int32_t> flips(static_cast<size_t>(ceil_div(n, TILE) * TILE));
    for (int64_t k = 0; k < g.batch; ++k) {
        const float* from = x + k * g.image_stride;
        if (mean != nullptr) from = Means{*bytes, *geometry, *mean}.of(from, threads);
        float quantum;
        const uint8_t* const rounded_image = rounded(isa, *bytes, image, from, threads, quantum);
        if (pool == nullptr) {
            in_parallel(pixels, BLOCK, threads, [&](int64_t begin, int64_t end) {
                const Held held(*bytes);
                Outputs here = then;
                here.first = k * pixels + begin;
                conv.run(patches, rounded_image, quantum, begin, end, here);
            });
            continue;
        }
        const bool is_ordered = keeps_order(then, g.kernel[0] * g.kernel[1] * g.channels, quantum, flips.data());
        float* const to = y + k * pool->out_size[0] * pool->out_size[1] * n;
        in_parallel(pool->out_size[0], 1, threads, [&](int64_t begin, int64_t end) {
            const Held held(*bytes);
            if (is_ordered) conv.pool_sums(patches, rounded_image, quantum, *pool, flips.data(), begin, end, then, to);
            else conv.run_pooled(patches, rounded_image, quantum, *pool, begin, end, then, to);
        });
    }
    return 0;
}
