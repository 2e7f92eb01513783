// Int8 convolutions of float images, in one pass with means before and steps and a pool after.
#include <cfloat>
#include <cmath>

#include "epilogue/fused_images.hpp"
#include "epilogue/outputs_of.hpp"
#include "int8/image.hpp"
#include "int8/weight_tiles.hpp"
#include "runtime/status.hpp"

using namespace proxconnect;

namespace {

// Return true if the steps keep or reverse the order of sums of `entries` products, for each channel, and results are
// finite. Set `flips` to 0 or all bits for each channel.
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
            } else if (step->kind != CLAMP) {
                return false;
            }
            largest = std::fmax(largest, bound);
        }
        if (!(largest < FLT_MAX) || std::isnan(bound)) return false;
        flips[c] = is_reversed ? -1 : 0;
    }
    return true;
}

// The product of rounded images with a weight.
struct WholeNumbers {
    static constexpr int64_t GRAIN = BLOCK;

    const Kernels& kernels;
    const Geometry& g;
    WeightTiles weight;
    const Window* pool;
    const Outputs& then;
    const Int8Kernels& bytes = *kernels.int8;
    ByteImage image{g};
    Patches patches{image};
    std::vector<int32_t> flips = std::vector<int32_t>(static_cast<size_t>(ceil_div(g.out_channels, TILE) * TILE));
    const uint8_t* rounded_image = nullptr;
    float quantum = 0;
    bool is_ordered = false;
    bool looks_up = weight.panels == nullptr && kernels.weight_only->suits_sums != nullptr &&
                    kernels.weight_only->suits_sums(g);

    bool take(const float* x, int32_t threads) {
        rounded_image = rounded(kernels, image, x, threads, quantum);
        const int64_t entries = g.kernel[0] * g.kernel[1] * g.channels;
        is_ordered = pool != nullptr && keeps_order(then, entries, quantum, flips.data());
        return true;
    }

    void run(int64_t begin, int64_t end, Outputs here) const {
        const int64_t first = here.first - begin, n = g.out_channels;
        if (looks_up) {
            here.first = first;
            const uint8_t* const inside = rounded_image + g.padding[0] * image.row + g.padding[1] * g.channels;
            const BytePixels pixels = {inside, image.row, g.channels, &quantum, 0};
            return kernels.weight_only->look_up(pixels, g, begin, end, {weight.signs, 0, n}, here);
        }
        each_tile([&](const int8_t* tile, int64_t block, int64_t last) {
            patches.each(rounded_image, quantum, begin, end, [&](const ByteRows& rows, int64_t pixel) {
                here.first = first + pixel;
                multiply_bytes(bytes, rows, {tile, block, last, n, here});
            });
        });
    }

    // Pool sums, or their complements where `flips` is all bits, then apply the steps to the largest.
    bool run_pooled(int64_t begin, int64_t end, float* y) const {
        if (!is_ordered) return false;
        const int64_t n = g.out_channels, width = g.out_size[1], steps = patches.steps();
        auto* const largest = scratch<int32_t, WholeNumbers>(pool->out_size[1] * TILE);
        Outputs here = then;
        here.y = y;
        each_tile([&](const int8_t* tile, int64_t block, int64_t last) {
            const auto convolve_row = [&](int64_t row, int32_t* place) {
                const int64_t from = row * width;
                patches.each(rounded_image, quantum, from, from + width, [&](const ByteRows& rows, int64_t pixel) {
                    int32_t* const to = place + (pixel - from) * TILE;
                    bytes.add(rows, tile + block * block_bytes(steps), last - block, to);
                });
            };
            pool_rows<int32_t>(
                *pool, ceil_div(width, BLOCK) * BLOCK * TILE, begin, end, convolve_row,
                [&](const int32_t* const* rows, int64_t count, int64_t row) {
                    bytes.pool(rows, count, *pool, flips.data() + block * BLOCK, largest);
                    here.first = row * pool->out_size[1];
                    const ByteRows pooled = {nullptr, pool->out_size[1], 0, nullptr, steps, &quantum, 0};
                    bytes.finish(pooled, {tile, block, last, n, here}, largest);
                });
        });
        return true;
    }

  private:
    template <class Work>
    void each_tile(const Work& work) const {
        weight.each(0, ceil_div(g.out_channels, BLOCK), patches.steps(), work);
    }
};

}  // namespace

Status proxconnect::convolve_bytes(const FusedImages& images, const int8_t* panels, const uint64_t* signs) {
    const WeightTiles weight = {images.kernels, images.g, panels, signs};
    WholeNumbers product = {images.kernels, images.g, weight, images.pool, images.then};
    return convolve(images, product, [&](int64_t begin, int64_t end, float* to) {
        return product.run_pooled(begin, end, to);
    });
}

int32_t px_int8_conv2d(int32_t isa, const float* x, const Window* mean, const Geometry* geometry, const int8_t* panels,
                       const Fused* fused, const float* const* others, const Window* pool, float* y, int32_t threads) {
    return status_of(isa, [&](const Kernels& kernels) {
        const Outputs then = outputs_of(*fused, geometry->out_channels, others, y);
        return convolve_bytes({kernels, x, mean, *geometry, then, pool, threads}, panels, nullptr);
    });
}
