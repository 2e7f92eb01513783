// Convolutions with a binary weight: by bytes of a rounded image, by tables of an image's pixels, or as products of
// patches that are gathered to rows, a block at a time.
#include <algorithm>

#include "binary/tap_range.hpp"
#include "epilogue/fused_images.hpp"
#include "epilogue/outputs_of.hpp"
#include "float_conv/float_image.hpp"
#include "float_sign/kernels.hpp"
#include "runtime/status.hpp"

using namespace proxconnect;

namespace {

// Copy taps [first, last) of a row of a patch, from `from` on, `step` floats apart. The others of `count` taps are 0.
void put_taps(const float* from, int64_t step, int64_t first, int64_t last, int64_t count, int64_t channels,
              float* to) {
    const auto bytes = [&](int64_t taps) { return static_cast<size_t>(taps * channels) * sizeof(float); };
    std::memset(to, 0, bytes(first));
    if (step == channels) {
        std::memcpy(to + first * channels, from, bytes(last - first));
    } else {
        for (int64_t j = first; j < last; ++j) std::memcpy(to + j * channels, from + (j - first) * step, bytes(1));
    }
    std::memset(to + last * channels, 0, bytes(count - last));
}

// Gather the inputs of an output pixel for one group, (kernel height, kernel width, channel), 0 beyond the border.
void gather(const PixelRows& image, const Geometry& g, int64_t group, int64_t pixel, float* patch) {
    const int64_t channels = g.channels / g.groups, taps = g.kernel[1], apart = g.dilation[1];
    const int64_t row = pixel / g.out_size[1], column = pixel % g.out_size[1];
    const int64_t top = start_of(g, 0, row), left = start_of(g, 1, column);
    TapRange inside;
    find_taps_inside(g, 0, row, inside);
    find_taps_inside(g, 1, column, inside);
    const int64_t first = inside.first[1], last = inside.last[1];
    for (int64_t i = 0; i < g.kernel[0]; ++i, patch += taps * channels) {
        const bool is_inside = i >= inside.first[0] && i < inside.last[0] && last > first;
        const int64_t from = is_inside ? (top + i * g.dilation[0]) * g.size[1] + left + first * apart : 0;
        put_taps(image.pixels + from * image.stride + group * channels, apart * image.stride, first,
                 is_inside ? last : first, taps, channels, patch);
    }
}

// Return true if the weight may be spread to bytes.
bool spreads(const Kernels& kernels, const Geometry& g) {
    return kernels.spread_signs != nullptr && g.channels / g.groups * g.kernel[0] * g.kernel[1] <= MOST_AS_BYTES;
}

// The product of images with a binary weight, patch by patch. If `rounds`, all patches of an image have its step.
struct Rows {
    static constexpr int64_t GRAIN = 6, BLOCK = 96;  // rows at once, whose patches stay in the second cache

    const Kernels& kernels;
    const Geometry& g;
    const uint64_t* panels;
    bool rounds;
    PixelRows image = {};
    float inverse[BLOCK] = {}, quantum[BLOCK] = {};

    bool take(const float* x, int32_t threads) {
        const bool has_rows = g.channel_stride == 1 && g.row_stride == g.size[1] * g.pixel_stride;
        image = has_rows ? PixelRows{x, g.pixel_stride} : PixelRows{copied(x, threads), g.channels};
        if (!rounds) return true;
        const Quantum found = quantum_in(kernels, g, x, threads);
        std::fill_n(inverse, BLOCK, found.inverse), std::fill_n(quantum, BLOCK, found.step);
        return true;
    }

    // Return true if the tables of pixels are fewer than those of patches, and no table has entries of two taps.
    bool suits_tables() const {
        constexpr int64_t HALF_WORD = 32;
        return kernels.weight_only->convolve != nullptr && !rounds && g.channels / g.groups % HALF_WORD == 0 &&
               g.kernel[0] * g.kernel[1] > g.stride[0] * g.stride[1];
    }

    void run(int64_t begin, int64_t end, const Outputs& here) const {
        const int64_t entries = g.channels / g.groups * g.kernel[0] * g.kernel[1], n = g.out_channels / g.groups;
        const int64_t count = panels_of(n), width = words_of(entries);
        auto* const patches = scratch<float, Rows>(least(BLOCK, end - begin) * entries);
        for (int64_t group = 0; group < g.groups; ++group) {
            const uint64_t* const weight = panels + group * count * width * PANEL;
            const FloatOutputs outputs = {weight, 0, count, n, here, group * n};
            if (suits_tables()) {
                const PixelRows inputs = {image.pixels + group * (g.channels / g.groups), image.stride};
                kernels.weight_only->convolve(inputs, g, begin, end, from_row(outputs, -begin));
                continue;
            }
            for (int64_t pixel = begin; pixel < end; pixel += BLOCK) {
                FloatRows rows = {patches, least(BLOCK, end - pixel), entries, entries, rounds};
                if (rounds) rows.inverse = inverse, rows.quantum = quantum;
                if (reads_pixels(g)) {
                    rows.x = image.pixels + pixel * image.stride + group * entries, rows.stride = image.stride;
                } else {
                    for (int64_t r = 0; r < rows.count; ++r) gather(image, g, group, pixel + r, patches + r * entries);
                }
                const FloatOutputs to = from_row(outputs, pixel - begin);
                rounds && spreads(kernels, g) ? multiply_as_bytes(kernels, rows, to, 1)
                                              : kernels.weight_only->multiply(rows, to);
            }
        }
    }

  private:
    // Return the image, channels last, in memory of this thread.
    const float* copied(const float* x, int32_t threads) const {
        Geometry no_border = g;
        no_border.padding[0] = no_border.padding[1] = 0;
        return reinterpret_cast<const float*>(FloatImage{no_border}.copied(x, threads));
    }
};

}  // namespace

int32_t px_weight_only_conv2d(int32_t isa, int32_t rounds, const float* x, const Window* mean, const Geometry* geometry,
                              const uint64_t* panels, const Fused* fused, const float* const* others,
                              const Window* pool, float* y, int32_t threads) {
    return status_of(isa, [&](const Kernels& kernels) {
        const Outputs then = outputs_of(*fused, geometry->out_channels, others, y);
        FusedImages images = {kernels, x, mean, *geometry, then, pool, threads};
        const Geometry& g = images.g = without_strides(images.g);
        if (rounds && g.groups == 1 && spreads(kernels, g)) return convolve_bytes(images, nullptr, panels);
        Rows product = {kernels, g, panels, rounds != 0};
        return convolve(images, product);
    });
}
