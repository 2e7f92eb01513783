// Images of floats as bytes, and where the patches of a convolution lie in them. An image is rounded by one step and laid
// out with its border, so that what a row of the kernel sees is one piece of it: no patch is ever gathered.
#pragma once

#include "int8_entries.hpp"

namespace proxconnect {

// An image as bytes, channels last, with its border.
struct ByteImage {
    const Geometry& g;
    int64_t width = g.size[1] + 2 * g.padding[1], row = width * g.channels;
    int64_t size = (g.size[0] + 2 * g.padding[0]) * row;
};

// Rounds an image that begins at x, in memory of this thread; writes the step to `quantum`.
const uint8_t* rounded(int32_t isa, const Int8Kernels& kernels, const ByteImage& image, const float* x, int32_t threads,
                       float& quantum);

// The patches of output pixels, as rows of bytes.
class Patches {
  public:
    explicit Patches(const ByteImage& image);

    int64_t steps() const { return static_cast<int64_t>(steps_.size()); }

    // Calls work(rows, pixel) for output pixels [begin, end), as many at once as lie at one distance and whose sums stay
    // in the cache.
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
