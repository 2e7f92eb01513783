// Convolutions by tables in registers. The tables of an input pixel serve all taps, so they are made once for a few rows
// of an image, and no patches are gathered.
#pragma once

#include "float_sign/register_tables.hpp"
#include "runtime/row_blocks.hpp"

namespace proxconnect {
namespace {

// Floats of one group of an image, and its outputs from the first pixel on.
template <class V>
struct FloatProduct {
    static constexpr int rows = V::rows;
    static constexpr int64_t ENTRIES = HALF, FLOATS = TABLES<V>;

    const Kernels& kernels;
    const PixelRows& image;
    int64_t width;
    const FloatOutputs& outputs;

    void make(int64_t row, int64_t column, int64_t halves, float* to) const {
        const float* const pixel = image.pixels + (row * width + column) * image.stride;
        for (int64_t k = 0; k < halves; ++k) V::make_tables(pixel + k * HALF, to + k * FLOATS);
    }

    template <class Work>
    void each_tile(int64_t pixel, int64_t count, const Work& work) const {
        work(*this);
        take_steps(kernels, count, from_row(outputs, pixel));
    }

    template <int ROWS>
    void add(const RowsOfTables<ROWS>& tables, int64_t halves, int64_t pixel) const {
        add_products<V, ROWS>(tables, {nullptr, ROWS, halves * HALF, 0, false}, from_row(outputs, pixel), 0, halves);
    }
};

// A product of images whose channels are a multiple of Product::ENTRIES, which have tables of Product::FLOATS floats.
// Product also has: `rows`, the pixels that add(tables, count, pixel) multiplies at once; make(row, column, parts, to),
// which makes the tables of a pixel; and each_tile(pixel, count, work), which calls work(tile) for tiles of
// outputs that have `add`, for `count` pixels from `pixel` on.
template <class Product>
struct TableConv {
    static constexpr int64_t MEMORY = least(1 << 19, PROXCONNECT_BLOCK_BYTES);  // bytes of tables in the second cache

    const Product& product;
    const Geometry& g;
    int64_t parts, taps, size, columns;  // ENTRIES of a pixel, taps, floats of a pixel's tables, pixels of a row
    const int64_t* offsets;

    TableConv(const Product& p, const Geometry& geometry)
        : product(p), g(geometry), parts(g.channels / g.groups / Product::ENTRIES), taps(g.kernel[0] * g.kernel[1]),
          size(parts * Product::FLOATS), columns((g.out_size[1] - 1) * g.stride[1] + span(1)) {
        auto* const to = scratch<int64_t, TableConv>(taps * parts);
        for (int64_t i = 0; i < taps * parts; ++i) {
            const int64_t tap = i / parts, row = tap / g.kernel[1] * g.dilation[0];
            to[i] = (row * columns + tap % g.kernel[1] * g.dilation[1]) * size + i % parts * Product::FLOATS;
        }
        offsets = to;
    }

    // Return the number of input pixels from the first tap to the last.
    int64_t span(int axis) const { return (g.kernel[axis] - 1) * g.dilation[axis] + 1; }

    // Make the tables of `count` rows of the image with its border, from row `first` on. If it is inlined, GCC 12 loads
    // constants again for every table.
    __attribute__((noinline)) void make_rows(int64_t first, int64_t count, float* to) const {
        for (int64_t i = first - g.padding[0]; i < first - g.padding[0] + count; ++i) {
            for (int64_t j = -g.padding[1]; j < columns - g.padding[1]; ++j, to += size) {
                if (i < 0 || i >= g.size[0] || j < 0 || j >= g.size[1]) {
                    std::memset(to, 0, static_cast<size_t>(size) * sizeof(float));
                    continue;
                }
                product.make(i, j, parts, to);
            }
        }
    }

    // Compute output pixels [begin, end) from tables that begin where those of output row `top` do.
    template <int ROWS, class Tile>
    void multiply(const Tile& tile, const float* tables, int64_t top, int64_t begin, int64_t end) const {
        for (; begin + ROWS <= end; begin += ROWS) {
            RowsOfTables<ROWS> all = {{}, offsets};
            for (int64_t r = 0; r < ROWS; ++r) {
                const int64_t row = (begin + r) / g.out_size[1] - top, column = (begin + r) % g.out_size[1];
                all.rows[r] = tables + (row * g.stride[0] * columns + column * g.stride[1]) * size;
            }
            tile.add(all, taps * parts, begin);
        }
        if constexpr (ROWS > 1) {
            if (begin < end) multiply<ROWS - 1>(tile, tables, top, begin, end);
        }
    }

    void run(int64_t begin, int64_t end) const {
        const int64_t row_bytes = columns * size * static_cast<int64_t>(sizeof(float)), width = g.out_size[1];
        const int64_t fitting = most(1, (MEMORY / row_bytes - span(0)) / g.stride[0] + 1);  // rows of outputs
        const int64_t lines = ceil_div(end, width) - begin / width, at_once = ceil_div(lines, ceil_div(lines, fitting));
        for (int64_t pixel = begin, next; pixel < end; pixel = next) {
            const int64_t top = pixel / width, bottom = least(top + at_once, ceil_div(end, width));
            const int64_t rows = (bottom - top - 1) * g.stride[0] + span(0);
            next = least(end, bottom * width);
            auto* const tables = scratch<float, Product>(rows * columns * size);
            make_rows(top * g.stride[0], rows, tables);
            product.each_tile(pixel, next - pixel, [&](const auto& tile) {
                multiply<Product::rows>(tile, tables, top, pixel, next);
            });
        }
    }
};

}  // namespace
}  // namespace proxconnect
