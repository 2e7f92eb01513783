// Products of rows of bytes with a weight of signs by AMX, up to four tiles of sixteen rows with sixteen outputs at a time,
// and what becomes of the sums.
#pragma once

#include "amx.hpp"
#include "avx512.hpp"
#include "byte_signs.hpp"
#include "scratch.hpp"

namespace proxconnect {
namespace {

constexpr int64_t TILE = 16, TILES_AT_ONCE = 4;

// Rows that begin `stride` bytes apart, of which the first `used` of each `line` are rows of the outputs, from row `first`
// on, the others nothing; the first row is of column `column` of a line. Whole tiles are read.
struct Places {
    const int8_t* bytes;
    int64_t stride, count, line, used, column, first;
    const Span* spans;
    int64_t span_count;
};

// A few tiles of rows: how many, from which on, and which of their sums become which rows of the outputs.
struct Group {
    int64_t tiles, begin, count, rows[TILES_AT_ONCE * TILE], places[TILES_AT_ONCE * TILE];
};

// Sums that are not yet outputs.
struct Waiting {
    const Group* group;
    const int32_t* sums;
    Channels channels;
};

// Sums are tiles 0 to 3, rows tiles 4 and 5, the weight tile 6. `next(j)` says where that is.
template <int TILES, class Next>
inline void multiply_tiles(const Places& of, const int8_t* x, const Next& next) {
    _tile_zero(0);
    if (TILES > 1) _tile_zero(1);
    if (TILES > 2) _tile_zero(2);
    if (TILES > 3) _tile_zero(3);
    const int64_t below = TILE * of.stride;
    for (int64_t j = 0; j < of.span_count; ++j) {
        const int8_t* const rows = x + of.spans[j].at;
        _tile_loadd(6, next(j), SPAN);
        _tile_loadd(4, rows, of.stride);
        _tile_dpbssd(0, 4, 6);
        if (TILES > 1) {
            _tile_loadd(5, rows + below, of.stride);
            _tile_dpbssd(1, 5, 6);
        }
        if (TILES > 2) {
            _tile_loadd(4, rows + 2 * below, of.stride);
            _tile_dpbssd(2, 4, 6);
        }
        if (TILES > 3) {
            _tile_loadd(5, rows + 3 * below, of.stride);
            _tile_dpbssd(3, 5, 6);
        }
    }
}

template <int TILES>
inline void store_tiles(int32_t* sums) {
    constexpr int64_t PITCH = TILE * sizeof(int32_t);
    _tile_stored(0, sums, PITCH);
    if (TILES > 1) _tile_stored(1, sums + TILE * TILE, PITCH);
    if (TILES > 2) _tile_stored(2, sums + 2 * TILE * TILE, PITCH);
    if (TILES > 3) _tile_stored(3, sums + 3 * TILE * TILE, PITCH);
}

class ByteTiles {
  public:
    ByteTiles(const Places& of, const SpreadWeight& weight, const Outputs& outputs)
        : of_(of), weight_(weight), outputs_(outputs) {
        count_ = ceil_div(of.count, TILES_AT_ONCE * TILE);
        groups_ = static_cast<Group*>(scratch<Group>(count_ * static_cast<int64_t>(sizeof(Group))));
        aim();
    }

    // Outputs of panels [first, last), so many of which at a time that their bytes stay in the second cache.
    void multiply(int64_t first, int64_t last) {
        constexpr int64_t BYTES = 1 << 20;
        const int64_t block = of_.span_count * SpreadWeight::TILE_BYTES;
        const int64_t part = most(BYTES / block, 1) * PANELS;
        const int64_t kept = count_ == 1 ? AT_ONCE : of_.span_count * ceil_div(least(part, last - first), PANELS);
        bytes_ = static_cast<int8_t*>(scratch<SpreadWeight>(kept * SpreadWeight::TILE_BYTES));
        const TileConfiguration configuration;
        _tile_loadconfig(&configuration);
        for (int64_t begin = first; begin < last; begin += part) {
            for (int64_t i = 0; i < count_; ++i) multiply(groups_[i], begin, least(begin + part, last));
        }
        put();
        _tile_release();
    }

  private:
    static constexpr int64_t PANELS = TILE / PANEL;
    // How many tiles of the weight are spread ahead of their use, and are kept where they are used but once.
    static constexpr int64_t AHEAD = 2, AT_ONCE = 8;

    // Says of each place which row of the outputs it is.
    void aim() {
        const int64_t tiles = ceil_div(of_.count, TILE);
        int64_t at = 0, row = of_.first + of_.column, column = of_.column;
        for (int64_t i = 0; i < count_; ++i) {
            Group& group = groups_[i];
            group.begin = at, group.tiles = tiles * (i + 1) / count_ - at / TILE, group.count = 0;
            const int64_t end = least(at + group.tiles * TILE, of_.count);
            while (at < end) {
                const int64_t used = least(end - at, most(of_.used - column, 0));
                for (int64_t k = 0; k < used; ++k, ++group.count) {
                    group.rows[group.count] = row++, group.places[group.count] = at + k - group.begin;
                }
                const int64_t step = least(end - at, of_.line - column);
                at += step, column = column + step == of_.line ? 0 : column + step;
            }
        }
    }

    void multiply(const Group& group, int64_t first, int64_t last) {
        int8_t* weight = bytes_;
        for (int64_t panel = first; panel < last; panel += PANELS) {
            const Channels channels = {panel * PANEL, least(outputs_.channels, least(panel + PANELS, last) * PANEL)};
            switch (group.tiles) {
                case 1: multiply<1>(group, channels, weight); break;
                case 2: multiply<2>(group, channels, weight); break;
                case 3: multiply<3>(group, channels, weight); break;
                default: multiply<4>(group, channels, weight);
            }
            if (count_ > 1) weight += of_.span_count * SpreadWeight::TILE_BYTES;
        }
    }

    // The sums before become outputs while the tiles are at work.
    template <int TILES>
    void multiply(const Group& group, Channels channels, int8_t* weight) {
        const int8_t* const x = of_.bytes + group.begin * of_.stride;
        if (&group == groups_) {
            multiply_first<TILES>(x, channels.begin / PANEL, weight);
        } else {
            multiply_tiles<TILES>(of_, x, [&](int64_t j) { return weight + j * SpreadWeight::TILE_BYTES; });
        }
        put();
        int32_t* const sums = sums_[is_second_];
        is_second_ = !is_second_;
        store_tiles<TILES>(sums);
        waiting_ = {&group, sums, channels};
    }

    // The first group spreads the weight.
    template <int TILES>
    void multiply_first(const int8_t* x, int64_t panel, int8_t* weight) {
        const int64_t ring = count_ == 1 ? AT_ONCE - 1 : -1;
        const auto place = [&](int64_t j) { return weight + (j & ring) * SpreadWeight::TILE_BYTES; };
        for (int64_t j = 0; j < least(AHEAD, of_.span_count); ++j) weight_.spread(panel, of_.spans[j], place(j));
        multiply_tiles<TILES>(of_, x, [&](int64_t j) {
            const int64_t coming = j + AHEAD;
            if (coming < of_.span_count) weight_.spread(panel, of_.spans[coming], place(coming));
            asm volatile("" ::: "memory");  // which the loads of tiles do not say that they read
            return place(j);
        });
    }

    void put() {
        if (waiting_.group == nullptr) return;
        int64_t at = 0;
        for (; at + 8 <= waiting_.group->count; at += 8) put<8>(at);
        for (; at < waiting_.group->count; ++at) put<1>(at);
    }

    template <int ROWS>
    void put(int64_t at) {
        const int32_t* const from = waiting_.sums;
        const int64_t* const places = waiting_.group->places + at;
        const auto sums = [&](int r, int64_t c) { return loaded<Ints<Avx512>>(from + places[r] * TILE + c); };
        proxconnect::put<Avx512, ROWS, TILE>(sums, outputs_, waiting_.group->rows + at, waiting_.channels);
    }

    const Places& of_;
    const SpreadWeight& weight_;
    const Outputs& outputs_;
    Group* groups_;
    int64_t count_;
    int8_t* bytes_ = nullptr;
    Waiting waiting_ = {};
    bool is_second_ = false;
    alignas(64) int32_t sums_[2][TILES_AT_ONCE * TILE * TILE];
};

}  // namespace
}  // namespace proxconnect
