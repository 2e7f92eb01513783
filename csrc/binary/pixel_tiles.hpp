// Tiles of output pixels, which multiply the same words of the weight together.
#pragma once

#include "binary/products.hpp"
#include "binary/tap_range.hpp"

namespace proxconnect {
namespace {

struct Tile {
    TapRange taps;
    Entries entries;
    int64_t runs, length, pixels;
    const uint64_t** inputs;
    int64_t* places;
    int64_t rows[ROWS];
    uint8_t nan[ROWS];
};

// The output pixels of one group, many tiles at a time, so that a few panels of the weight stay in the cache for all.
// Source finds the words of a pixel.
template <class V, class Source>
class Tiles {
  public:
    Tiles(Source& source, const PackedImage& image, const uint64_t* panels, const Geometry& g, const Outputs& outputs,
          const Scratch& scratch, int64_t group)
        : source_(source), image_(image), panels_(panels), g_(g), outputs_(outputs), scratch_(scratch), group_(group) {}

    // Add output columns [begin, end) of a row.
    void add_row(int64_t row, int64_t begin, int64_t end) {
        find_taps_inside(g_, 0, row, inside_);
        row_ = row;
        int64_t first, last;
        find_whole(first, last);
        for (int64_t column = begin; column < end;) {
            const int64_t part = least(end, column + source_.most_columns);
            if (!source_.begin_columns(row, column, part)) {
                multiply();
                source_.clear();
                source_.begin_columns(row, column, part);
            }
            for (; column < least(part, first); ++column) add(column);
            for (; column + V::rows <= least(part, last); column += V::rows) add_tile(column);
            for (; column < part; ++column) add(column);
        }
    }

    void multiply() {
        const int64_t count = panels_of(g_.out_channels / g_.groups);
        int64_t panel = 0;
        for (; panel + V::panels <= count; panel += V::panels) multiply<V::panels>(panel);
        if (V::panels > 2 && panel + 2 <= count) {
            multiply<2>(panel);
            panel += 2;
        }
        for (; panel < count; ++panel) multiply<1>(panel);
        count_ = whole_tile_ = 0;
    }

  private:
    // Add the columns of this row that read all taps, or a border that is not zero.
    void find_whole(int64_t& first, int64_t& last) const {
        const int64_t past = g_.size[1] + g_.padding[1] - (g_.kernel[1] - 1) * g_.dilation[1];
        first = g_.border != 0 ? 0 : (g_.padding[1] + g_.stride[1] - 1) / g_.stride[1];
        last = g_.border != 0 ? g_.out_size[1] : (past + g_.stride[1] - 1) / g_.stride[1];
        if (g_.border == 0 && inside_.last[0] - inside_.first[0] < g_.kernel[0]) last = 0;
    }

    void add(int64_t column) {
        find_taps_inside(g_, 1, column, inside_);
        Tile& tile = tile_for(source_.taps_of(inside_));
        put(column, tile, tile.pixels++);
    }

    void add_tile(int64_t column) {
        Tile& tile = new_tile(source_.whole);
        for (int64_t at = 0; at < V::rows; ++at) {
            if (image_.nan != nullptr) find_taps_inside(g_, 1, column + at, inside_);
            put(column + at, tile, at);
        }
        tile.pixels = V::rows;
    }

    void put(int64_t column, Tile& tile, int64_t at) {
        tile.rows[at] = row_ * g_.out_size[1] + column;
        tile.nan[at] = image_.nan != nullptr && meets_nan(image_.from.x, image_.nan, g_, inside_, group_, row_, column);
        source_.point(tile.taps, column, tile.inputs + at * tile.runs);
    }

    // Pixels are collected until a tile has enough that read the same taps.
    Tile& tile_for(const TapRange& taps) {
        for (int64_t t = taps == source_.whole ? whole_tile_ : 0; t < count_; ++t) {
            if (tiles_[t].taps == taps && tiles_[t].pixels < V::rows) return tiles_[t];
        }
        Tile& tile = new_tile(taps);
        if (taps == source_.whole) whole_tile_ = count_ - 1;
        return tile;
    }

    Tile& new_tile(const TapRange& taps) {
        if (count_ == TILES) multiply();
        Tile& tile = tiles_[count_];
        const int64_t most_runs = most(g_.kernel[0] * g_.kernel[1], 2);
        tile.taps = taps, tile.pixels = 0;
        tile.inputs = scratch_.inputs + count_ * ROWS * most_runs, tile.places = scratch_.places + count_ * most_runs;
        ++count_;
        source_.place(tile);
        return tile;
    }

    template <int PANELS>
    void multiply(int64_t panel) {
        const int64_t width = source_.words, n = g_.out_channels / g_.groups;
        const uint64_t* const panels = panels_ + panel * PANEL * width;
        const Channels channels = {group_ * n + panel * PANEL, (group_ + 1) * n};
        for (const Tile* t = tiles_; t < tiles_ + count_; ++t) {
            const Runs of = {t->runs, t->length, t->inputs, t->places};
            if (t->pixels == V::rows) {
                tile<V, V::rows, PANELS>(of, t->nan, panels, width, t->entries, outputs_, t->rows, channels);
                continue;
            }
            for (int64_t p = 0; p < t->pixels; ++p) {
                const Runs one = {t->runs, t->length, t->inputs + p * t->runs, t->places};
                tile<V, 1, PANELS>(one, t->nan + p, panels, width, t->entries, outputs_, t->rows + p, channels);
            }
        }
    }

    Source& source_;
    const PackedImage& image_;
    const uint64_t* const panels_;
    const Geometry& g_;
    const Outputs& outputs_;
    const Scratch& scratch_;
    const int64_t group_;
    Tile tiles_[TILES];
    int64_t count_ = 0, whole_tile_ = 0, row_ = 0;
    TapRange inside_ = {};
};

}  // namespace
}  // namespace proxconnect
