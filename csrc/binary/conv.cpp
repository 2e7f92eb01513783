// Binary convolutions. Each thread packs, band by band, the rows of an image that its output pixels read. Kernels for
// few channels in a group read bytes, others words.
#include <algorithm>
#include <atomic>
#include <cstring>

#include "epilogue/outputs_of.hpp"
#include "epilogue/planes.hpp"
#include "isa/kernels.hpp"
#include "runtime/scratch.hpp"
#include "runtime/sizes.hpp"
#include "runtime/status.hpp"
#include "runtime/threads.hpp"

using namespace proxconnect;

namespace {

// An image as bits. Each thread has its own, and packs only the rows it needs.
class Packing {
  public:
    Packing(const Kernels& kernels, const Geometry& g, const Signed& from, int64_t pad, bool has_upper)
        : kernels_(kernels), g_(g) {
        const int64_t margin = g.padding[0], rows = g.size[0] + 2 * margin + 1;
        const int64_t width = words_of((g.size[1] + 2 * pad) * g.channels) + 1;
        uint64_t* const first = scratch<uint64_t, struct Bits>((has_upper ? 2 : 1) * rows * width) + margin * width;
        uint64_t* const upper = has_upper ? first + rows * width : nullptr;
        image_ = {from, first, upper, scratch<uint8_t, struct Nan>(g.size[0] * g.size[1]), pad, width};
        words_ = scratch<uint64_t, struct Words>(g.size[0] * (g.size[1] * words_of(g.channels) + 1));
        fill_border(first, -margin, 0, g.border > 0);
        fill_border(first, g.size[0], g.size[0] + margin + 1, g.border > 0);
        if (has_upper) fill_border(upper, g.size[0], g.size[0] + 1, true);
    }

    // Pack the rows that output pixels [begin, end) read, except those already packed, and call then(image, first,
    // last) for them.
    template <class Then>
    PackedImage pack(int64_t begin, int64_t end, const Then& then) {
        const int64_t top = begin / g_.out_size[1] * g_.stride[0] - g_.padding[0];
        const int64_t bottom = (end - 1) / g_.out_size[1] * g_.stride[0] - g_.padding[0];
        const int64_t first = std::max(packed_, std::max<int64_t>(top, 0));
        const int64_t last = std::min(bottom + (g_.kernel[0] - 1) * g_.dilation[0] + 1, g_.size[0]);
        if (first < last) {
            kernels_.pack_image(g_, first, last, words_, image_);
            then(image_, first, last);
            const uint8_t* const nan = image_.nan + first * g_.size[1];
            has_nan_ |= std::memchr(nan, 1, static_cast<size_t>((last - first) * g_.size[1])) != nullptr;
            packed_ = last;
        }
        PackedImage image = image_;
        if (!has_nan_) image.nan = nullptr;
        return image;
    }

  private:
    void fill_border(uint64_t* rows, int64_t begin, int64_t end, bool is_positive) const {
        const size_t bytes = static_cast<size_t>((end - begin) * image_.width) * sizeof(uint64_t);
        std::memset(rows + begin * image_.width, is_positive ? 255 : 0, bytes);
    }

    const Kernels& kernels_;
    const Geometry& g_;
    PackedImage image_;
    uint64_t* words_;
    int64_t packed_ = 0;
    bool has_nan_ = false;
};

// Set signs and NaN marks, if any, to 0.
void clear(const Outputs& outputs, int64_t first, int64_t last) {
    if (outputs.signs == nullptr) return;
    const int64_t width = words_of(outputs.channels), at = outputs.first + first;
    std::memset(outputs.words + at * width, 0, static_cast<size_t>((last - first) * width) * sizeof(uint64_t));
    if (outputs.nan != nullptr) std::memset(outputs.nan + at, 0, static_cast<size_t>(last - first));
}

// Convolve one image. Return true if it contains NaN.
bool convolve(const Kernels& kernels, const Signed& from, const Geometry& g, const uint64_t* panels,
              const Outputs& outputs, int32_t threads) {
    std::atomic<bool> has_nan{false};
    const int64_t inner = g.channels / g.groups, taps = g.kernel[0] * g.kernel[1], words = words_of(taps * inner);
    const bool has_upper = g.border == 0 && inner % 64 != 0 && g.padding[0] + g.padding[1] > 0;
    in_parallel(g.out_size[0] * g.out_size[1], 1, threads, [&](int64_t begin, int64_t end) {
        const Scratch memory = {scratch<int64_t, struct Lists>((TILES + 1) * 4 * words),
                                scratch<uint64_t, struct Patches>(PATCHES * (words + 1))};
        Packing packing(kernels, g, from, g.padding[1], has_upper);
        const auto convolve_band = [&](int64_t first, int64_t last) {
            const PackedImage image = packing.pack(first, last, [](const PackedImage&, int64_t, int64_t) {});
            clear(outputs, first, last);
            write_pixels(g, outputs, first, last, [&](const Outputs& to) {
                kernels.binary_conv(image, panels, g, to, memory, first, last);
            });
            if (image.nan != nullptr) has_nan = true;
        };
        if (g.has_planes) return in_bands(g, begin, end, convolve_band);
        convolve_band(begin, end);  // the bits of all pixels are little
    });
    return has_nan;
}

// Write a border pixel in bytes: its channels, for every plane.
void put_border(const Geometry& g, int64_t planes, uint8_t* bytes) {
    for (int64_t plane = 0; plane < planes; ++plane, bytes += g.out_channels) {
        const int64_t channels = std::min<int64_t>(g.channels / g.groups - 8 * plane, 8);
        std::memset(bytes, g.border > 0 ? (1 << channels) - 1 : 0, static_cast<size_t>(g.out_channels));
    }
}

bool convolve_thin(const Kernels& kernels, const Signed& from, const Geometry& g, const uint64_t* words,
                   const Outputs& outputs, int32_t threads) {
    std::atomic<bool> has_nan{false};
    const int64_t planes = ceil_div(g.channels / g.groups, 8), n = g.out_channels;
    const int64_t taps = g.kernel[0] * g.kernel[1], pixels = g.size[0] * g.size[1];
    uint8_t* const weight = scratch<uint8_t, struct Weight>(taps * planes * (n + 64));
    kernels.spread_weight(words, g, weight);
    in_parallel(g.out_size[0] * g.out_size[1], 1, threads, [&](int64_t begin, int64_t end) {
        uint8_t* const bytes = scratch<uint8_t, struct Image>((pixels + 1) * planes * n + 64);
        int64_t* const memory = scratch<int64_t, struct Places>(4 * taps * planes);
        put_border(g, planes, bytes + pixels * planes * n);
        Packing packing(kernels, g, from, 0, false);
        in_bands(g, begin, end, [&](int64_t first, int64_t last) {
            const auto spread = [&](const PackedImage& rows, int64_t begin_row, int64_t end_row) {
                kernels.spread_image(rows, g, begin_row, end_row, bytes);
            };
            const ThinImage image = {from, weight, bytes, packing.pack(first, last, spread).nan};
            clear(outputs, first, last);
            write_pixels(g, outputs, first, last, [&](const Outputs& to) {
                kernels.thin_conv(image, g, to, memory, first, last);
            });
            if (image.nan != nullptr) has_nan = true;
        });
    });
    return has_nan;
}

Signed image_of(const Signed& from, const Geometry& g, int64_t k) {
    Signed image = from;
    const int64_t at = k * g.image_stride;
    if (image.x != nullptr) image.x += at;
    if (image.words != nullptr) image.words += at;
    if (image.nan != nullptr) image.nan += at / words_of(g.channels);
    return image;
}

// Return the number of words to xor for an image, or the equal amount of work on bytes.
double words_of_image(const Geometry& g, bool is_thin) {
    const int64_t inner = g.channels / g.groups, taps = g.kernel[0] * g.kernel[1];
    return 1.0 * g.out_size[0] * g.out_size[1] * g.out_channels *
           (is_thin ? ceil_div(taps * ceil_div(inner, 8), 8) : words_of(taps * inner));
}

// Convolve all images: whole images for each thread, then the rest shared. Return true if one contains NaN.
bool convolve_all(const Kernels& kernels, const Signed& from, const Geometry& geometry, const uint64_t* panels,
                  const Outputs& outputs, int32_t threads) {
    const Geometry g = geometry.channel_stride == 1 ? without_strides(geometry) : geometry;
    const bool is_thin = g.groups > 1 && g.channels / g.groups < 64 && g.out_channels / g.groups < 32;
    const double work = words_of_image(g, is_thin);
    std::atomic<bool> has_nan{false};
    const auto convolve_images = [&](int64_t begin, int64_t end, int32_t for_each) {
        for (int64_t k = begin; k < end; ++k) {
            Outputs mine = outputs;
            mine.first = k * g.out_size[0] * g.out_size[1];
            if ((is_thin ? convolve_thin : convolve)(kernels, image_of(from, g, k), g, panels, mine, for_each)) {
                has_nan = true;
            }
        }
    };
    threads = std::max(threads_for(work * g.batch, WORDS_WORTH_A_THREAD, threads), 1);
    const int64_t alone = g.batch / threads * threads;
    in_parallel(alone, 1, threads, [&](int64_t begin, int64_t end) { convolve_images(begin, end, 1); });
    convolve_images(alone, g.batch, threads_for(work, WORDS_WORTH_A_THREAD, threads));
    return has_nan;
}

}  // namespace

int32_t px_binary_conv2d(int32_t isa, const float* x, const uint64_t* words, const uint8_t* input_nan,
                         const Geometry* geometry, const uint64_t* panels, const Fused* fused,
                         const float* const* others, uint8_t* nan, void* output, int32_t threads) {
    return status_of(isa, [&](const Kernels& kernels) {
        const Outputs outputs = outputs_of(*fused, geometry->out_channels, others, output, nan);
        const bool has_nan = convolve_all(kernels, {x, words, input_nan}, *geometry, panels, outputs, threads);
        return is_nan_lost(outputs, has_nan) ? NOT_TAKEN : DONE;
    });
}
