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
    const int64_t words = proxconnect::words_of(count * inner);
    const TapRange whole = {{0, 0}, {g.kernel[0], g.kernel[1]}};
    const bool are_neighbours = g.groups == 1 && g.dilation[1] == 1;

    // Return the row that row i of the kernel reads for output row `row`.
    const uint64_t* row_of(const uint64_t* rows, int64_t row, int64_t i) const {
        const int64_t y = start_of(g, 0, row) + i * g.dilation[0];
        return rows + (y >= 0 && y < g.size[0] ? y : g.size[0]) * image.width;
    }
};

// Words of the image.
class InPlace : public Taps {
  public:
    static constexpr int64_t most_columns = INT64_MAX / 2;
    const int64_t step = g.stride[1] * g.channels / 64;  // from column to column

    InPlace(const PackedImage& image, const Geometry& g, const Scratch& scratch, int64_t group)
        : Taps{image, g, scratch, group} {}

    bool begin_columns(int64_t row, int64_t, int64_t) {
        row_ = start_of(g, 0, row) * image.width + group * (inner / 64);
        return true;
    }

    void clear() {}

    TapRange taps_of(const TapRange& inside) const { return g.border != 0 ? whole : inside; }

    Entries entries_of(const TapRange& taps) const { return {static_cast<int32_t>(taps.count() * inner), 1}; }

    ListedWords words_of(const TapRange& taps, int64_t* memory) const {
        const int64_t width = inner / 64;
        int64_t *const inputs = memory, *const weights = memory + words, found = 0;
        for (int64_t i = taps.first[0]; i < taps.last[0]; ++i) {
            for (int64_t j = taps.first[1]; j < taps.last[1]; ++j) {
                for (int64_t k = 0; k < width; ++k, ++found) {
                    inputs[found] = i * g.dilation[0] * image.width + j * g.dilation[1] * g.channels / 64 + k;
                    weights[found] = ((i * g.kernel[1] + j) * width + k) * PANEL;
                }
            }
        }
        return {found, image.rows, inputs, weights};
    }

    int64_t place_of(const TapRange&, int64_t column) const {
        return row_ + (start_of(g, 1, column) + image.pad) * g.channels / 64;
    }

  private:
    int64_t row_ = 0;
};

// Copies of the bits, one after another. A border of zero is half of +1 and -1, so a sum is the mean of those with
// either border. The copies with a border of +1 have their own half of the memory.
class Gathered : public Taps {
  public:
    static constexpr int64_t most_columns = PATCHES / 4;
    const int64_t step = words + 1;  // from patch to patch

    Gathered(const PackedImage& image, const Geometry& g, const Scratch& scratch, int64_t group)
        : Taps{image, g, scratch, group} {}

    // Return false if there is no room for the columns.
    bool begin_columns(int64_t row, int64_t begin, int64_t end) {
        if (used_ + end - begin > PATCHES / 2) return false;
        row_ = row, first_ = used_ - begin;
        gather(image.rows, begin, end - begin, used_);
        used_ += end - begin;
        return true;
    }

    void clear() { used_ = 0; }

    TapRange taps_of(const TapRange& inside) const { return g.border != 0 || inside == whole ? whole : TapRange{}; }

    Entries entries_of(const TapRange& taps) const {
        return {static_cast<int32_t>(count * inner), taps == whole ? 1 : 0};
    }

    ListedWords words_of(const TapRange& taps, int64_t* memory) const {
        int64_t *const inputs = memory, *const weights = memory + 2 * words;
        for (int64_t j = 0; j < words; ++j) {
            inputs[j] = j, inputs[words + j] = PATCHES / 2 * step + j;
            weights[j] = weights[words + j] = j * PANEL;
        }
        return {taps == whole ? words : 2 * words, scratch.patches, inputs, weights};
    }

    int64_t place_of(const TapRange& taps, int64_t column) const {
        const int64_t patch = first_ + column;
        if (!(taps == whole)) gather(image.upper, column, 1, PATCHES / 2 + patch);
        return patch * step;
    }

  private:
    // Gather the patches of `columns` output pixels from `column` on, as patch `to` and those after it.
    void gather(const uint64_t* rows, int64_t column, int64_t columns, int64_t to) const {
        uint64_t* const patches = scratch.patches + to * step;
        const int64_t joined = are_neighbours ? g.kernel[1] : 1;
        int64_t at = 0;
        for (int64_t i = 0; i < g.kernel[0]; ++i) {
            const uint64_t* const row = row_of(rows, row_, i);
            for (int64_t j = 0; j < g.kernel[1]; j += joined) {
                const int64_t left = start_of(g, 1, column) + image.pad + j * g.dilation[1];
                for (int64_t k = 0; k < joined * inner; k += 64) {
                    const int64_t bits = least(64, joined * inner - k);
                    append_columns(row, left * g.channels + group * inner + k, bits, columns, at, patches);
                    at += bits;
                }
            }
        }
    }

    // Append up to 64 bits to each column's patch, at place `at`. They begin at place `from` for the first column.
    void append_columns(const uint64_t* row, int64_t from, int64_t bits, int64_t columns, int64_t at,
                        uint64_t* patches) const {
        const int64_t distance = g.stride[1] * g.channels;
        for (int64_t c = 0; c < columns; ++c, from += distance, patches += step) {
            append(bits_at(row, from, bits), at, patches);
        }
    }

    int64_t used_ = 0, row_ = 0, first_ = 0;
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
