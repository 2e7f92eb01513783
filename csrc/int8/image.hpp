// Images of floats as bytes, and the places of patches in them. An image is rounded by one step and stored with its
// border. Each row of the kernel then reads one adjacent piece, so that no patch is gathered.
#pragma once

#include <cstring>
#include <vector>

#include "epilogue/planes.hpp"
#include "int8/kernels.hpp"
#include "runtime/threads.hpp"

namespace proxconnect {

// An image as bytes, channels last, with its border.
struct ByteImage {
    const Geometry& g;
    int64_t width = g.size[1] + 2 * g.padding[1], row = width * g.channels;
    int64_t size = (g.size[0] + 2 * g.padding[0]) * row;

    // The bytes that may be read after the image too: a whole tile of pixels, and a whole step.
    int64_t readable = size + BLOCK * g.stride[1] * g.channels + STEP;
};

// Let put(row, to) write the bytes of each row of the image at x, and write the border around them.
template <class Put>
void put_image(const ByteImage& image, const float* x, int border, int32_t threads, uint8_t* bytes, const Put& put) {
    const Geometry& g = image.g;
    const int64_t side = g.padding[1] * g.channels;
    in_parallel(g.size[0] + 2 * g.padding[0], 1, threads, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) {
            uint8_t* const to = bytes + i * image.row;
            const int64_t row = i - g.padding[0];
            if (row < 0 || row >= g.size[0]) {
                std::memset(to, border, static_cast<size_t>(image.row));
                continue;
            }
            put(x + row * g.row_stride, to + side);
            std::memset(to, border, static_cast<size_t>(side));
            std::memset(to + image.row - side, border, static_cast<size_t>(side));
        }
    });
}

struct FusedImages;

// Convolve rounded images with panels of bytes, or, if those are null, with a binary weight, which takes spread_signs.
Status convolve_bytes(const FusedImages& images, const int8_t* panels, const uint64_t* signs);

// Return the step of the image at x.
Quantum quantum_in(const Kernels& kernels, const Geometry& g, const float* x, int32_t threads);

// Round the image at x, in memory of this thread, and write the step to `quantum`.
const uint8_t* rounded(const Kernels& kernels, const ByteImage& image, const float* x, int32_t threads, float& quantum);

// The patches of output pixels, as rows of bytes.
class Patches {
  public:
    explicit Patches(const ByteImage& image);

    const Stretch* first() const { return steps_.data(); }
    int64_t steps() const { return static_cast<int64_t>(steps_.size()); }

    // Call work(rows, pixel) for output pixels [begin, end), as many at once as have patches at equal distances and
    // sums that fit the cache.
    template <class Work>
    void each(const uint8_t* bytes, const float& quantum, int64_t begin, int64_t end, const Work& work) const {
        constexpr int64_t PIXELS = 128;
        for (int64_t pixel = begin, last; pixel < end; pixel = last) {
            const int64_t i = pixel / line_, j = pixel % line_;
            last = least(least(pixel + PIXELS, (i + 1) * line_), end);
            const ByteRows rows = {bytes + i * g_.stride[0] * row_ + j * g_.stride[1] * g_.channels, last - pixel,
                                   g_.stride[1] * g_.channels, steps_.data(), static_cast<int64_t>(steps_.size()),
                                   &quantum, 0};
            work(rows, pixel);
        }
    }

  private:
    const Geometry& g_;
    std::vector<Stretch> steps_;
    int64_t row_, line_;  // bytes of a row of the image; output pixels that follow each other at one distance
};

}  // namespace proxconnect
