// Binary convolutions. A row of the weight has its taps one after another, each with its channels. If the channels of a
// group fill whole words, the inputs of an output pixel are read from the packed image. Otherwise they are gathered bit
// by bit.
#pragma once

#include "binary/pixel_tiles.hpp"
#include "binary/signs.hpp"

namespace proxconnect {
namespace {

// The members of both sources.
struct Taps {
    const PackedImage& image;
    const Geometry& g;
    const Scratch& scratch;
    const int64_t group, inner = g.channels / g.groups, count = g.kernel[0] * g.kernel[1];
    const int64_t words = words_of(count * inner);
    const TapRange whole = {{0, 0}, {g.kernel[0], g.kernel[1]}};
    const bool are_neighbours = g.groups == 1 && g.dilation[1] == 1;

    // Return the row that row i of the kernel reads for output row `row`.
    const uint64_t* row_of(const uint64_t* rows, int64_t row, int64_t i) const {
        const int64_t y = start_of(g, 0, row) + i * g.dilation[0];
        return rows + (y >= 0 && y < g.size[0] ? y : g.size[0]) * image.width;
    }
};

// Words of the image, in runs of adjacent taps.
class InPlace : public Taps {
  public:
    static constexpr int64_t most_columns = INT64_MAX / 2;

    InPlace(const PackedImage& image, const Geometry& g, const Scratch& scratch, int64_t group)
        : Taps{image, g, scratch, group} {}

    bool begin_columns(int64_t row, int64_t, int64_t) {
        row_ = row;
        point_first(whole, scratch.starts);
        return true;
    }

    void clear() {}

    TapRange taps_of(const TapRange& inside) const { return g.border != 0 ? whole : inside; }

    void place(Tile& tile) const {
        const int64_t width = inner / 64, columns = tile.taps.last[1] - tile.taps.first[1];
        tile.entries = {static_cast<int32_t>(tile.taps.count() * inner), 1};
        tile.length = are_neighbours ? columns * width : width;
        tile.runs = 0;
        for (int64_t i = tile.taps.first[0]; i < tile.taps.last[0]; ++i) {
            for (int64_t j = tile.taps.first[1]; j < tile.taps.last[1]; ++j) {
                tile.places[tile.runs++] = (i * g.kernel[1] + j) * width;
                if (are_neighbours) break;
            }
        }
    }

    void point(const TapRange& taps, int64_t column, const uint64_t** inputs) const {
        const int64_t at = (start_of(g, 1, column) + image.pad) * words_of_pixel_;
        if (taps == whole) {
            const int64_t runs = are_neighbours ? g.kernel[0] : count;
            for (int64_t run = 0; run < runs; ++run) inputs[run] = scratch.starts[run] + at;
        } else {
            const int64_t runs = point_first(taps, inputs);
            for (int64_t run = 0; run < runs; ++run) inputs[run] += at;
        }
    }

  private:
    // Point to the runs of an output pixel whose first tap is the first pixel of a row. Return their number.
    int64_t point_first(const TapRange& taps, const uint64_t** inputs) const {
        int64_t run = 0;
        for (int64_t i = taps.first[0]; i < taps.last[0]; ++i) {
            const uint64_t* const row = row_of(image.rows, row_, i) + group * (inner / 64);
            for (int64_t j = taps.first[1]; j < taps.last[1]; ++j) {
                inputs[run++] = row + j * g.dilation[1] * words_of_pixel_;
                if (are_neighbours) break;
            }
        }
        return run;
    }

    const int64_t words_of_pixel_ = g.channels / 64;
    int64_t row_ = 0;
};

// Copies of the bits, one after another. A border of zero is half of +1 and -1, so a sum is the mean of those with
// either border.
class Gathered : public Taps {
  public:
    static constexpr int64_t most_columns = PATCHES / 4;

    Gathered(const PackedImage& image, const Geometry& g, const Scratch& scratch, int64_t group)
        : Taps{image, g, scratch, group} {}

    // Return false if there is no room for the columns, and for a second copy of each.
    bool begin_columns(int64_t row, int64_t begin, int64_t end) {
        if (used_ + 2 * (end - begin) > PATCHES) return false;
        row_ = row, first_ = begin, patches_ = gather(image.rows, begin, end - begin);
        return true;
    }

    void clear() { used_ = 0; }

    TapRange taps_of(const TapRange& inside) const { return g.border != 0 || inside == whole ? whole : TapRange{}; }

    void place(Tile& tile) const {
        const bool is_whole = tile.taps == whole;
        tile.entries = {static_cast<int32_t>(count * inner), is_whole ? 1 : 0};
        tile.runs = is_whole ? 1 : 2, tile.length = words;
        for (int64_t run = 0; run < tile.runs; ++run) tile.places[run] = 0;
    }

    void point(const TapRange& taps, int64_t column, const uint64_t** inputs) {
        inputs[0] = patches_ + (column - first_) * (words + 1);
        if (!(taps == whole)) inputs[1] = gather(image.upper, column, 1);
    }

  private:
    // Gather the patches of `columns` output pixels from `column` on.
    const uint64_t* gather(const uint64_t* rows, int64_t column, int64_t columns) {
        uint64_t* const patches = scratch.patches + used_ * (words + 1);
        used_ += columns;
        const int64_t step = are_neighbours ? g.kernel[1] : 1;
        int64_t at = 0;
        for (int64_t i = 0; i < g.kernel[0]; ++i) {
            const uint64_t* const row = row_of(rows, row_, i);
            for (int64_t j = 0; j < g.kernel[1]; j += step) {
                const int64_t left = start_of(g, 1, column) + image.pad + j * g.dilation[1];
                for (int64_t k = 0; k < step * inner; k += 64) {
                    const int64_t bits = least(64, step * inner - k);
                    append_columns(row, left * g.channels + group * inner + k, bits, columns, at, patches);
                    at += bits;
                }
            }
        }
        return patches;
    }

    // Append up to 64 bits to each column's patch, at place `at`. They begin at place `from` for the first column.
    void append_columns(const uint64_t* row, int64_t from, int64_t bits, int64_t columns, int64_t at,
                        uint64_t* patches) const {
        const int64_t step = g.stride[1] * g.channels, size = words + 1, shift = at % 64;
        const uint64_t kept = shift == 0 ? 0 : ~uint64_t{0};
        uint64_t* to = patches + at / 64;
        for (int64_t c = 0; c < columns; ++c, from += step, to += size) {
            const uint64_t word = bits_at(row, from, bits);
            to[0] = (to[0] & kept) | word << shift;
            to[1] = (word >> 1) >> (63 - shift);
        }
    }

    int64_t used_ = 0, row_ = 0, first_ = 0;
    const uint64_t* patches_ = nullptr;
};

template <class V, class Source>
inline void convolve_group(const PackedImage& image, const uint64_t* panels, const Geometry& g, const Outputs& outputs,
                           const Scratch& scratch, int64_t group, int64_t begin, int64_t end) {
    Source source(image, g, scratch, group);
    Tiles<V, Source> tiles(source, image, panels, g, outputs, scratch, group);
    const int64_t width = g.out_size[1];
    for (int64_t row = begin / width; row * width < end; ++row) {
        const int64_t first = most(begin, row * width), last = least(end, (row + 1) * width);
        tiles.add_row(row, first - row * width, last - row * width);
    }
    tiles.multiply();
}

template <class V>
void binary_conv(const PackedImage& image, const uint64_t* panels, const Geometry& g, const Outputs& outputs,
                 const Scratch& scratch, int64_t begin, int64_t end) {
    static_assert(V::rows <= ROWS);
    const int64_t n = g.out_channels / g.groups, inner = g.channels / g.groups, taps = g.kernel[0] * g.kernel[1];
    const int64_t per_group = panels_of(n) * words_of(taps * inner) * PANEL;
    for (int64_t group = 0; group < g.groups; ++group) {
        const auto convolve = inner % 64 == 0 ? convolve_group<V, InPlace> : convolve_group<V, Gathered>;
        convolve(image, panels + group * per_group, g, outputs, scratch, group, begin, end);
    }
}

}  // namespace
}  // namespace proxconnect
