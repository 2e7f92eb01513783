#include "int8/image.hpp"

#include <algorithm>

#include "int8/steps.hpp"
#include "runtime/scratch.hpp"
#include "runtime/threads.hpp"

namespace proxconnect {
namespace {

// Round one row of pixels, to channels last.
void round_row(const Int8Kernels& kernels, const Geometry& g, const float* from, float inverse, uint8_t* to) {
    if (g.pixel_stride == 1 && g.channel_stride != 1) {
        return kernels.round_planes(from, g.channels, g.channel_stride, g.size[1], inverse, to);
    }
    for_pieces(g, from, [&](const float* piece, int64_t count) {
        kernels.round(piece, count, inverse, to);
        to += count;
    });
}

}  // namespace

Quantum quantum_in(const Kernels& kernels, const Geometry& g, const float* x, int32_t threads) {
    std::vector<uint32_t> of_rows(static_cast<size_t>(g.size[0]));
    in_parallel(g.size[0], 1, threads, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) {
            uint32_t& mine = of_rows[static_cast<size_t>(i)];
            for_pieces(g, x + i * g.row_stride, [&](const float* from, int64_t count) {
                mine = std::max(mine, kernels.weight_only->largest(from, count));
            });
        }
    });
    return quantum_of(of_rows.empty() ? 0 : *std::max_element(of_rows.begin(), of_rows.end()));
}

const uint8_t* rounded(const Kernels& kernels, const ByteImage& image, const float* x, int32_t threads,
                       float& quantum) {
    auto* const bytes = scratch<uint8_t, ByteImage>(image.readable);
    const Quantum found = quantum_in(kernels, image.g, x, threads);
    quantum = found.step;
    constexpr int ZERO = 128;
    put_image(image, x, ZERO, threads, bytes, [&](const float* row, uint8_t* to) {
        round_row(*kernels.int8, image.g, row, found.inverse, to);
    });
    return bytes;
}

Patches::Patches(const ByteImage& image) : g_(image.g), row_(image.row), line_(image.g.out_size[1]) {
    const Pieces pieces(g_);
    const int64_t of_row = pieces.count / g_.kernel[0];
    for (int64_t i = 0; i < pieces.count; ++i) {
        const int64_t row = i / of_row * g_.dilation[0], column = i % of_row * g_.dilation[1];
        add_steps(row * row_ + column * g_.channels, pieces.length, steps_);
    }
    const bool is_pixel = g_.kernel[0] == 1 && g_.kernel[1] == 1 && g_.stride[0] == 1 && g_.stride[1] == 1;
    if (is_pixel && g_.padding[1] == 0) line_ *= g_.out_size[0];
}

}  // namespace proxconnect
