// Convolutions by tables of an image's pixels, or as products: gather patches of an image to rows, a block at a time.
#include "float_sign/kernels.hpp"
#include "isa/four_floats.hpp"
#include "runtime/status.hpp"
#include "runtime/threads.hpp"

using namespace proxconnect;

namespace {

// Copy pixels [begin, end) to channels last.
void put_channels_last(const float* from, const Geometry& g, int64_t begin, int64_t end, float* to) {
    int64_t p = begin;
    for (; g.pixel_stride == 1 && p + 4 <= end; p += 4) {
        int64_t c = 0;
        for (; c + 4 <= g.channels; c += 4) {
            FourFloats v[4];
            const float* const corner = from + c * g.channel_stride + p;
            for (int64_t i = 0; i < 4; ++i) v[i] = loaded<FourFloats>(corner + i * g.channel_stride);
            transpose(v);
            for (int64_t i = 0; i < 4; ++i) std::memcpy(to + (p + i) * g.channels + c, &v[i], sizeof v[i]);
        }
        for (; c < g.channels; ++c) {
            for (int64_t i = 0; i < 4; ++i) to[(p + i) * g.channels + c] = from[c * g.channel_stride + p + i];
        }
    }
    for (; p < end; ++p) {
        const float* const pixel = from + p * g.pixel_stride;
        for (int64_t c = 0; c < g.channels; ++c) to[p * g.channels + c] = pixel[c * g.channel_stride];
    }
}

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
    const int64_t top = pixel / g.out_size[1] * g.stride[0] - g.padding[0];
    const int64_t left = pixel % g.out_size[1] * g.stride[1] - g.padding[1];
    const int64_t first = left >= 0 ? 0 : least(taps, (-left + apart - 1) / apart);  // within the border
    const int64_t beyond = left >= g.size[1] ? 0 : least(taps, (g.size[1] - left + apart - 1) / apart);
    const int64_t last = beyond > first ? beyond : first;
    for (int64_t i = 0; i < g.kernel[0]; ++i, patch += taps * channels) {
        const int64_t row = top + i * g.dilation[0];
        const bool is_inside = row >= 0 && row < g.size[0] && last > first;
        const int64_t from = is_inside ? row * g.size[1] + left + first * apart : 0;
        put_taps(image.pixels + from * image.stride + group * channels, apart * image.stride, first,
                 is_inside ? last : first, taps, channels, patch);
    }
}

// Return true if a patch is one pixel, so that the image already has rows.
bool is_product(const Geometry& g) {
    bool is = true;
    for (int i = 0; i < 2; ++i) is = is && g.kernel[i] == 1 && g.stride[i] == 1 && g.padding[i] == 0;
    return is;
}

struct Conv {
    const WeightOnlyKernels& kernels;
    const Geometry& g;
    const uint64_t* panels;
    Affine affine;
    bool rounds;

    static constexpr int64_t BLOCK = 96;  // rows at once, whose patches stay in the second cache

    // Return true if the tables of pixels are fewer than those of patches, and no table has entries of two taps.
    bool suits_tables() const {
        constexpr int64_t HALF_WORD = 32;
        return kernels.convolve != nullptr && !rounds && g.channels / g.groups % HALF_WORD == 0 &&
               g.kernel[0] * g.kernel[1] > g.stride[0] * g.stride[1];
    }

    // Compute output pixels [begin, end) of one image, (pixels, out channels).
    void run(const PixelRows& image, float* y, int64_t begin, int64_t end) const {
        const int64_t entries = g.channels / g.groups * g.kernel[0] * g.kernel[1], n = g.out_channels / g.groups;
        const int64_t count = panels_of(n), width = words_of(entries);
        auto* const patches = static_cast<float*>(scratch<Conv>(least(BLOCK, end - begin) * entries * sizeof(float)));
        for (int64_t group = 0; group < g.groups; ++group) {
            Affine mine = affine;
            if (mine.scales > 1) mine.scale += group * n;
            if (mine.bias != nullptr) mine.bias += group * n;
            const uint64_t* const weight = panels + group * count * width * PANEL;
            if (suits_tables()) {
                const PixelRows inputs = {image.pixels + group * (g.channels / g.groups), image.stride};
                const FloatOutputs outputs = {weight, 0, count, n, mine, y + group * n, g.out_channels};
                kernels.convolve(inputs, g, begin, end, outputs);
                continue;
            }
            for (int64_t pixel = begin; pixel < end; pixel += BLOCK) {
                FloatRows rows = {patches, least(BLOCK, end - pixel), entries, entries, rounds};
                if (is_product(g)) {
                    rows.x = image.pixels + pixel * image.stride + group * entries, rows.stride = image.stride;
                } else {
                    for (int64_t r = 0; r < rows.count; ++r) gather(image, g, group, pixel + r, patches + r * entries);
                }
                float* const to = y + pixel * g.out_channels + group * n;
                kernels.multiply(rows, {weight, 0, count, n, mine, to, g.out_channels});
            }
        }
    }
};

Status convolve(const Conv& conv, const float* x, float* y, int32_t threads) {
    const Geometry& g = conv.g;
    const int64_t pixels = g.size[0] * g.size[1], out_pixels = g.out_size[0] * g.out_size[1];
    const int64_t taps = g.kernel[0] * g.kernel[1];
    const double work = 1.0 * out_pixels * g.out_channels * taps * (g.channels / g.groups);
    threads = threads_for(work, FLOATS_WORTH_A_THREAD, threads);
    const bool is_last = g.channel_stride == 1 || g.channels == 1;
    auto* const copy = static_cast<float*>(scratch<PixelRows>(is_last ? 0 : pixels * g.channels * sizeof(float)));
    for (int64_t k = 0; k < g.batch; ++k) {
        const float* const from = x + k * g.image_stride;
        if (!is_last) {
            in_parallel(pixels, 16, threads, [&](int64_t begin, int64_t end) {
                put_channels_last(from, g, begin, end, copy);
            });
        }
        const PixelRows image = is_last ? PixelRows{from, g.pixel_stride} : PixelRows{copy, g.channels};
        in_parallel(out_pixels, 6, threads, [&](int64_t begin, int64_t end) {
            conv.run(image, y + k * out_pixels * g.out_channels, begin, end);
        });
    }
    return DONE;
}

}  // namespace

int32_t px_weight_only_conv2d(int32_t isa, const float* x, const Geometry* geometry, const uint64_t* panels,
                              const Affine* affine, float* y, int32_t threads) {
    return status_of(isa, [&](const Kernels& kernels) {
        return convolve({*kernels.weight_only, *geometry, panels, *affine, false}, x, y, threads);
    });
}

int32_t px_dynamic_int8_conv2d(int32_t isa, const float* x, const Geometry* geometry, const uint64_t* panels,
                               const Affine* affine, float* y, int32_t threads) {
    return status_of(isa, [&](const Kernels& kernels) {
        return convolve({*kernels.weight_only, *geometry, panels, *affine, true}, x, y, threads);
    });
}
