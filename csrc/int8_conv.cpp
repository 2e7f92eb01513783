// Images of floats convolved with whole numbers. An image is rounded by one step and laid out with its border, so that
// what a row of the kernel sees is one piece of it: no patch is ever gathered.
#include <atomic>
#include <vector>

#include "int8_entries.hpp"
#include "threads.hpp"

using namespace proxconnect;

namespace {

// An image as bytes, channels last, with its border.
struct ByteImage {
    const Geometry& g;
    int64_t width = g.size[1] + 2 * g.padding[1], row = width * g.channels;
    int64_t size = (g.size[0] + 2 * g.padding[0]) * row;

    // What may be read behind it: a whole tile of pixels, and a whole step.
    int64_t slack() const { return BLOCK * g.stride[1] * g.channels + STEP; }
};

// Calls work(floats, count) for pieces of a row of pixels that lie in order.
template <class Work>
void for_pieces(const Geometry& g, const float* row, const Work& work) {
    if (g.channel_stride == 1 && g.pixel_stride == g.channels) return work(row, g.size[1] * g.channels);
    if (g.channel_stride == 1) {
        for (int64_t i = 0; i < g.size[1]; ++i) work(row + i * g.pixel_stride, g.channels);
    } else if (g.pixel_stride == 1) {
        for (int64_t c = 0; c < g.channels; ++c) work(row + c * g.channel_stride, g.size[1]);
    } else {
        for (int64_t i = 0; i < g.size[1]; ++i) {
            for (int64_t c = 0; c < g.channels; ++c) work(row + i * g.pixel_stride + c * g.channel_stride, 1);
        }
    }
}

Quantum quantum_in(int32_t isa, const Geometry& g, const float* x, int32_t threads) {
    std::atomic<uint32_t> most = 0;
    in_parallel(g.size[0], 1, threads, [&](int64_t begin, int64_t end) {
        uint32_t mine = 0;
        for (int64_t i = begin; i < end; ++i) {
            for_pieces(g, x + i * g.row_stride, [&](const float* from, int64_t count) {
                const uint32_t here = largest_in(isa, from, count);
                mine = here > mine ? here : mine;
            });
        }
        uint32_t seen = most.load();
        while (seen < mine && !most.compare_exchange_weak(seen, mine)) {}
    });
    return quantum_of(most.load());
}

// Planes of bytes, `plane` apart, as pixels that follow each other, of COUNT channels, or as many as are given where that
// is 0.
template <int64_t COUNT>
void put_pixels(const uint8_t* planes, int64_t plane, int64_t pixels, int64_t given, uint8_t* to) {
    const int64_t channels = COUNT == 0 ? given : COUNT;
    for (int64_t i = 0; i < pixels; ++i) {
        for (int64_t c = 0; c < channels; ++c) to[i * channels + c] = planes[i + c * plane];
    }
}

// Rounds one row of pixels, channels last.
void round_row(const Int8Kernels& kernels, const Geometry& g, const float* from, float inverse, uint8_t* to) {
    const bool are_planes = g.channel_stride != 1 && g.pixel_stride == 1;
    auto* const rounded = are_planes ? static_cast<uint8_t*>(scratch<Geometry>(g.size[1] * g.channels)) : to;
    uint8_t* next = rounded;
    for_pieces(g, from, [&](const float* piece, int64_t count) {
        kernels.round(piece, count, inverse, next);
        next += count;
    });
    if (!are_planes) return;
    const auto put = g.channels == 3 ? put_pixels<3> : put_pixels<0>;
    put(rounded, g.size[1], g.size[1], g.channels, to);
}

// Rows [begin, end) of the image with its border.
void round_rows(const Int8Kernels& kernels, const ByteImage& image, const float* x, float inverse, int64_t begin,
                int64_t end, uint8_t* bytes) {
    const Geometry& g = image.g;
    const int64_t side = g.padding[1] * g.channels;
    constexpr int ZERO = 128;
    for (int64_t i = begin; i < end; ++i) {
        uint8_t* const to = bytes + i * image.row;
        const int64_t row = i - g.padding[0];
        if (row < 0 || row >= g.size[0]) {
            std::memset(to, ZERO, static_cast<size_t>(image.row));
            continue;
        }
        std::memset(to, ZERO, static_cast<size_t>(side));
        round_row(kernels, g, x + row * g.row_stride, inverse, to + side);
        std::memset(to + image.row - side, ZERO, static_cast<size_t>(side));
    }
}

// Where the steps of a patch begin: each row of the kernel is a piece, or each tap where taps lie apart.
std::vector<Stretch> steps_of(const ByteImage& image) {
    const Geometry& g = image.g;
    const bool is_whole = g.dilation[1] == 1 || g.kernel[1] == 1;
    const int64_t pieces = is_whole ? 1 : g.kernel[1], length = is_whole ? g.kernel[1] * g.channels : g.channels;
    std::vector<Stretch> steps;
    for (int64_t i = 0; i < g.kernel[0]; ++i) {
        for (int64_t piece = 0; piece < pieces; ++piece) {
            add_steps(i * g.dilation[0] * image.row + piece * g.dilation[1] * g.channels, length, steps);
        }
    }
    return steps;
}

struct Conv {
    const Int8Kernels& kernels;
    const Geometry& g;
    const int8_t* panels;
    Affine affine;
    std::vector<Stretch> steps;
    int64_t row;  // of the image, in bytes

    static constexpr int64_t PIXELS = 128;  // at once, whose sums stay in the second cache

    // How many output pixels follow each other at one distance: where a patch is a pixel, all.
    int64_t line() const {
        const bool is_pixel = steps.size() == static_cast<size_t>(ceil_div(g.channels, STEP)) && g.kernel[1] == 1 &&
                              g.stride[0] == 1 && g.stride[1] == 1 && g.padding[1] == 0;
        return is_pixel ? g.out_size[0] * g.out_size[1] : g.out_size[1];
    }

    // Output pixels [begin, end) of a line.
    void run(const uint8_t* bytes, const float& quantum, float* y, int64_t begin, int64_t end) const {
        const int64_t pixels = g.out_size[0] * g.out_size[1], n = g.out_channels, width = line();
        for (int64_t pixel = begin, last; pixel < end; pixel = last) {
            const int64_t i = pixel / width, j = pixel % width;
            last = least(least(pixel + PIXELS, (i + 1) * width), end);
            const ByteRows rows = {bytes + i * g.stride[0] * row + j * g.stride[1] * g.channels, last - pixel,
                                   g.stride[1] * g.channels, steps.data(), static_cast<int64_t>(steps.size()),
                                   &quantum, 0};
            const ByteOutputs outputs = g.has_planes ? ByteOutputs{panels, 0, ceil_div(n, BLOCK), n, affine, y + pixel,
                                                                   1, pixels}
                                                     : ByteOutputs{panels, 0, ceil_div(n, BLOCK), n, affine,
                                                                   y + pixel * n, n, 1};
            kernels.multiply(rows, outputs);
        }
    }
};

}  // namespace

int32_t px_int8_conv2d(int32_t isa, const float* x, const Geometry* geometry, const int8_t* panels,
                       const Affine* affine, float* y, int32_t threads) {
    const Int8Kernels* const kernels = int8_kernels_of(isa);
    if (kernels == nullptr) return 1;
    const Geometry& g = *geometry;
    const ByteImage image{g};
    const Conv conv = {*kernels, g, panels, *affine, steps_of(image), image.row};
    const int64_t pixels = g.out_size[0] * g.out_size[1], taps = g.kernel[0] * g.kernel[1];
    if (pixels * g.out_channels * taps * g.channels < FLOATS_WORTH_A_THREAD) threads = 1;
    auto* const bytes = static_cast<uint8_t*>(scratch<ByteImage>(image.size + image.slack()));
    for (int64_t k = 0; k < g.batch; ++k) {
        const float* const from = x + k * g.image_stride;
        const Quantum quantum = quantum_in(isa, g, from, threads);
        in_parallel(g.size[0] + 2 * g.padding[0], 1, threads, [&](int64_t begin, int64_t end) {
            round_rows(*kernels, image, from, quantum.inverse, begin, end, bytes);
        });
        in_parallel(pixels, BLOCK, threads, [&](int64_t begin, int64_t end) {
            conv.run(bytes, quantum.step, y + k * pixels * g.out_channels, begin, end);
        });
    }
    return 0;
}
