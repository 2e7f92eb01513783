// Convolutions by register tables. The tables of an input pixel serve all taps, so they are made once for a few rows of
// an image, and no patches are gathered.
#pragma once

#include "float_sign/register_tables.hpp"
#include "runtime/row_blocks.hpp"

namespace proxconnect {
namespace {

// One group of an image, and its outputs from the first pixel on. The channels fill half words.
template <class V>
struct TableConv {
    static constexpr int64_t MEMORY = least(1 << 19, PROXCONNECT_BLOCK_BYTES);  // bytes of tables in the second cache

    const Kernels& kernels;
    const PixelRows& image;
    const Geometry& g;
    const FloatOutputs& outputs;
    int64_t halves, taps, size, columns;  // half words of a pixel, taps, floats of a pixel's tables, pixels of a row
    const int64_t* offsets;

    TableConv(const Kernels& own, const PixelRows& pixels, const Geometry& geometry, const FloatOutputs& o)
        : kernels(own), image(pixels), g(geometry), outputs(o), halves(g.channels / g.groups / HALF),
          taps(g.kernel[0] * g.kernel[1]), size(halves * TABLES<V>),
          columns((g.out_size[1] - 1) * g.stride[1] + span(1)) {
        auto* const to = static_cast<int64_t*>(scratch<TableConv>(taps * halves * sizeof(int64_t)));
        for (int64_t i = 0; i < taps * halves; ++i) {
            const int64_t tap = i / halves, row = tap / g.kernel[1] * g.dilation[0];
            to[i] = (row * columns + tap % g.kernel[1] * g.dilation[1]) * size + i % halves * TABLES<V>;
        }
        offsets = to;
    }

    // Return the number of input pixels from the first tap to the last.
    int64_t span(int axis) const { return (g.kernel[axis] - 1) * g.dilation[axis] + 1; }

    // Make the tables of `count` rows of the image with its border, from row `first` on.
    void make_rows(int64_t first, int64_t count, float* to) const {
        for (int64_t i = first - g.padding[0]; i < first - g.padding[0] + count; ++i) {
            for (int64_t j = -g.padding[1]; j < columns - g.padding[1]; ++j, to += size) {
                if (i < 0 || i >= g.size[0] || j < 0 || j >= g.size[1]) {
                    std::memset(to, 0, static_cast<size_t>(size) * sizeof(float));
                    continue;
                }
                const float* const pixel = image.pixels + (i * g.size[1] + j) * image.stride;
                for (int64_t k = 0; k < halves; ++k) V::make_tables(pixel + k * HALF, to + k * TABLES<V>);
            }
        }
    }

    // Compute output pixels [begin, end) from tables that begin where those of output row `top` do.
    template <int ROWS>
    void multiply(const float* tables, int64_t top, int64_t begin, int64_t end) const {
        const FloatRows rows = {nullptr, ROWS, taps * halves * HALF, 0, false};
        for (; begin + ROWS <= end; begin += ROWS) {
            RowsOfTables<ROWS> all = {{}, offsets};
            for (int64_t r = 0; r < ROWS; ++r) {
                const int64_t row = (begin + r) / g.out_size[1] - top, column = (begin + r) % g.out_size[1];
                all.rows[r] = tables + (row * g.stride[0] * columns + column * g.stride[1]) * size;
            }
            add_products<V, ROWS>(all, rows, from_row(outputs, begin), 0, taps * halves);
        }
        if constexpr (ROWS > 1) {
            if (begin < end) multiply<ROWS - 1>(tables, top, begin, end);
        }
    }

    void run(int64_t begin, int64_t end) const {
        const int64_t row_bytes = columns * size * static_cast<int64_t>(sizeof(float)), width = g.out_size[1];
        const int64_t at_once = most(1, (MEMORY / row_bytes - span(0)) / g.stride[0] + 1);  // rows of outputs
        for (int64_t pixel = begin, next; pixel < end; pixel = next) {
            const int64_t top = pixel / width, bottom = least(top + at_once, ceil_div(end, width));
            const int64_t count = (bottom - top - 1) * g.stride[0] + span(0);
            next = least(end, bottom * width);
            auto* const tables = static_cast<float*>(scratch<V>(count * row_bytes));
            make_rows(top * g.stride[0], count, tables);
            multiply<V::rows>(tables, top, pixel, next);
            take_steps(kernels, next - pixel, from_row(outputs, pixel));
        }
    }
};

}  // namespace
}  // namespace proxconnect
