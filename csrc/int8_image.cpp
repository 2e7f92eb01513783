#include "int8_image.hpp"

#include <atomic>

#include "scratch.hpp"
#include "threads.hpp"

namespace proxconnect {
namespace {

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

// Rounds one row of pixels, channels last.
void round_row(const Int8Kernels& kernels, const Geometry& g, const float* from, float inverse, uint8_t* to) {
    if (g.pixel_stride == 1 && g.channel_stride != 1) {
        return kernels.round_planes(from, g.channels, g.channel_stride, g.size[1], inverse, to);
    }
    for_pieces(g, from, [&](const float* piece, int64_t count) {
        kernels.round(piece, count, inverse, to);
        to += count;
    });
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

}  // namespace

const uint8_t* rounded(int32_t isa, const Int8Kernels& kernels, const ByteImage& image, const float* x, int32_t threads,
                       float& quantum) {
    // What may be read behind it: a whole tile of pixels, and a whole step.
    const int64_t slack = BLOCK * image.g.stride[1] * image.g.channels + STEP;
    auto* const bytes = static_cast<uint8_t*>(scratch<ByteImage>(image.size + slack));
    const Quantum found = quantum_in(isa, image.g, x, threads);
    quantum = found.step;
    in_parallel(image.g.size[0] + 2 * image.g.padding[0], 1, threads, [&](int64_t begin, int64_t end) {
        round_rows(kernels, image, x, found.inverse, begin, end, bytes);
    });
    return bytes;
}

// Where the steps of a patch begin: each row of the kernel is a piece, or each tap where taps lie apart.
Patches::Patches(const ByteImage& image) : g_(image.g), row_(image.row), line_(image.g.out_size[1]) {
    const bool is_whole = g_.dilation[1] == 1 || g_.kernel[1] == 1;
    const int64_t pieces = is_whole ? 1 : g_.kernel[1], length = is_whole ? g_.kernel[1] * g_.channels : g_.channels;
    for (int64_t i = 0; i < g_.kernel[0]; ++i) {
        for (int64_t piece = 0; piece < pieces; ++piece) {
            add_steps(i * g_.dilation[0] * row_ + piece * g_.dilation[1] * g_.channels, length, steps_);
        }
    }
    const bool is_pixel = g_.kernel[0] == 1 && g_.kernel[1] == 1 && g_.stride[0] == 1 && g_.stride[1] == 1;
    if (is_pixel && g_.padding[1] == 0) line_ *= g_.out_size[0];
}

}  // namespace proxconnect
