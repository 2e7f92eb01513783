// Outputs that are (out channels, out height, out width). Kernels write channels last, a band of pixels at a time, which
// then moves to the planes while it is in the cache.
#pragma once

#include "isa/four_floats.hpp"
#include "isa/kernels.hpp"
#include "runtime/scratch.hpp"
#include "runtime/sizes.hpp"

namespace proxconnect {
namespace {

// Call work(begin, end) for bands of output pixels whose bytes or planes fit a core's cache.
template <class Work>
void in_bands(const Geometry& g, int64_t begin, int64_t end, const Work& work) {
    constexpr int64_t PIXELS = 512;
    const int64_t band = ceil_div(PIXELS, g.out_size[1]) * g.out_size[1];
    for (int64_t first = begin; first < end; first += band) work(first, least(end, first + band));
}

// y[c][p] = x[p][c]. Channels of y are `plane` floats apart. A cache line of pixels is moved at a time.
inline void put_planes(const float* x, int64_t pixels, int64_t channels, float* y, int64_t plane) {
    constexpr int64_t LINE = 16;
    const auto put = [&](int64_t c, int64_t p) { y[c * plane + p] = x[p * channels + c]; };
    for (int64_t first = 0, p = 0, last; first < pixels; first = last) {
        last = least(first + LINE, pixels);
        for (int64_t c = 0; c < channels; c += 4) {
            for (p = first; p + 4 <= last && c + 4 <= channels; p += 4) {
                FourFloats v[4];
                for (int64_t k = 0; k < 4; ++k) v[k] = loaded<FourFloats>(x + (p + k) * channels + c);
                transpose(v);
                for (int64_t k = 0; k < 4; ++k) std::memcpy(y + (c + k) * plane + p, &v[k], sizeof v[k]);
            }
            for (int64_t k = c; k < least(c + 4, channels); ++k) {
                for (int64_t q = p; q < last; ++q) put(k, q);
            }
        }
    }
}

// Let write(to) write output pixels [first, last) of the image that begins at row outputs.first. Its pixel p becomes
// row to.first + p. If y has planes, move them there.
template <class Write>
void write_pixels(const Geometry& g, const Outputs& outputs, int64_t first, int64_t last, const Write& write) {
    if (!g.has_planes) return write(outputs);
    Outputs pixels = outputs;
    const int64_t size = (last - first) * g.out_channels * static_cast<int64_t>(sizeof(float));
    pixels.y = static_cast<float*>(scratch<Outputs>(size)), pixels.first = -first;
    write(pixels);
    const int64_t plane = g.out_size[0] * g.out_size[1];
    put_planes(pixels.y, last - first, g.out_channels, outputs.y + outputs.first * g.out_channels + first, plane);
}

}  // namespace
}  // namespace proxconnect
