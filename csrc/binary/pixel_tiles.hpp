// Tiles of output pixels, which multiply the same words of the weight together.
#pragma once

#include "binary/products.hpp"
#include "binary/tap_range.hpp"

namespace proxconnect {
namespace {

// Output pixels that read the same taps. With `repeats`, the next pixels follow at once, and so on.
struct Tile {
    TapRange taps;
    ListedWords words;
    Entries entries;
    int64_t repeats, pixels, places[ROWS], rows[ROWS];
    uint8_t nan[ROWS];
};

// The output pixels of one group, many tiles at a time, so that a few panels of the weight stay in the cache for all.
// Source finds the words of a pixel.
template <class V, class Source>
class Tiles {
  public:
    Tiles(Source& source, const PackedImage& image, const uint64_t* panels, const Geometry& g, const Outputs& outputs,
          const Scratch& scratch, int64_t group)
        : source_(source), image_(image), panels_(panels), g_(g), outputs_(outputs), scratch_(scratch), group_(group) {
        whole_ = source.words_of(source.whole, scratch.lists + TILES * size_of_lists());
    }

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
            const int64_t repeats = image_.nan != nullptr ? 0 : most(least(part, last) - column, 0) / V::rows;
            if (repeats > 0) add_tiles(column, repeats);
            column += repeats * V::rows;
            for (; column < part; ++column) add(column);
        }
    }

    void multiply() {
        const int64_t count = panels_of(g_.out_channels / g_.groups);
        int64_t panel = 0;
        if constexpr (V::Tables::panels > 0) {
            const int64_t pixels = V::rows * (count_ + repeats_);
            const int64_t end = V::Tables::are_worth_it(pixels, source_.words) ? count : 0;
            for (; panel + V::Tables::panels <= end; panel += V::Tables::panels) multiply<V::Tables::panels>(panel);
        }
        for (; panel + V::panels <= count; panel += V::panels) multiply<V::panels>(panel);
        if (V::panels > 2 && panel + 2 <= count) {
            multiply<2>(panel);
            panel += 2;
        }
        for (; panel < count; ++panel) multiply<1>(panel);
        count_ = open_count_ = repeats_ = 0;
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
        tile.places[tile.pixels] = source_.place_of(tile.taps, column);
        put(column, tile, tile.pixels++);
    }

    // Add tiles of V::rows columns that read all taps, if nothing is NaN.
    void add_tiles(int64_t column, int64_t repeats) {
        Tile& tile = new_tile(source_.whole, whole_);
        const int64_t place = source_.place_of(source_.whole, column), row = row_ * g_.out_size[1] + column;
        for (int64_t at = 0; at < V::rows; ++at) {
            tile.places[at] = place + at * source_.step, tile.rows[at] = row + at, tile.nan[at] = 0;
        }
        tile.repeats = repeats, tile.pixels = V::rows, repeats_ += repeats;
    }

    void put(int64_t column, Tile& tile, int64_t at) {
        tile.rows[at] = row_ * g_.out_size[1] + column;
        tile.nan[at] = image_.nan != nullptr && meets_nan(image_.from.x, image_.nan, g_, inside_, group_, row_, column);
    }

    // Pixels are collected until a tile has enough that read the same taps.
    Tile& tile_for(const TapRange& taps) {
        for (int64_t i = open_count_ - 1; i >= 0; --i) {
            Tile& tile = tiles_[open_[i]];
            if (!(tile.taps == taps)) continue;
            if (tile.pixels + 1 == V::rows) open_[i] = open_[--open_count_];
            return tile;
        }
        const bool is_whole = taps == source_.whole;
        make_room();
        if (V::rows > 1) open_[open_count_++] = count_;
        return new_tile(taps, is_whole ? whole_ : source_.words_of(taps, scratch_.lists + count_ * size_of_lists()));
    }

    Tile& new_tile(const TapRange& taps, const ListedWords& words) {
        make_room();
        Tile& tile = tiles_[count_++];
        tile.taps = taps, tile.words = words, tile.entries = source_.entries_of(taps);
        tile.repeats = 1, tile.pixels = 0;
        return tile;
    }

    void make_room() {
        if (count_ + repeats_ >= TILES) multiply();
    }

    // Return the number of entries of two lists of up to two patches.
    int64_t size_of_lists() const { return 4 * source_.words; }

    template <int PANELS>
    void multiply(int64_t panel) {
        const int64_t width = source_.words, n = g_.out_channels / g_.groups;
        const uint64_t* panels = panels_ + panel * PANEL * width;
        const Channels channels = {group_ * n + panel * PANEL, (group_ + 1) * n};
        const uint64_t* ahead = panels + PANELS * PANEL * width;  // the next panels, which are fetched part by part
        const auto fetch_ahead = [&, part = ceil_div(PANELS * width, most(count_ + repeats_, 1))] {
            for (int64_t k = 0; k < part; ++k, ahead += PANEL) __builtin_prefetch(ahead);
        };
        if constexpr (PANELS == V::Tables::panels) panels = V::Tables::rearranged(panels, width);
        for (const Tile* t = tiles_; t < tiles_ + count_; ++t) {
            ListedWords words = t->words;
            Outputs outputs = outputs_;
            if (t->pixels == V::rows) {
                words.places = t->places;
                for (int64_t i = 0; i < t->repeats; ++i) {
                    fetch_ahead();
                    tile<V, V::rows, PANELS>(words, t->nan, panels, width, t->entries, outputs, t->rows, channels);
                    words.words += V::rows * source_.step, outputs.first += V::rows;
                }
                continue;
            }
            fetch_ahead();
            for (int64_t p = 0; p < t->pixels; ++p) {
                words.places = t->places + p;
                tile<V, 1, PANELS>(words, t->nan + p, panels, width, t->entries, outputs_, t->rows + p, channels);
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
    ListedWords whole_;
    Tile tiles_[TILES];
    int64_t count_ = 0, repeats_ = 0, open_[TILES], open_count_ = 0, row_ = 0;  // open tiles have room for more pixels
    TapRange inside_ = {};
};

}  // namespace
}  // namespace proxconnect
