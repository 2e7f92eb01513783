// Products of rows of bytes with a weight of signs by AMX, up to four tiles of sixteen rows with sixteen outputs at a time,
// and what becomes of the sums.
#pragma once

#include "amx.hpp"
#include "avx512.hpp"
#include "byte_signs.hpp"
#include "scratch.hpp"

namespace proxconnect {
namespace {

constexpr int64_t TILE = 16, TILES_AT_ONCE = 4, PITCH = 64;  // of rows of sums

// Rows that begin `stride` bytes apart, of which the first `used` of each `line` are rows of the outputs, from row `first`
// on, the others nothing; the first row is of column `column` of a line. Whole tiles are read.
struct Places {
    const int8_t* bytes;
    int64_t stride, count, line, used, column, first;
};

// Where the entries of a row lie.
struct Spans {
    const Span* spans;
    int64_t count;
};

// Which sums of a few tiles of rows become which rows of the outputs.
struct Group {
    int64_t count, rows[TILES_AT_ONCE * TILE], places[TILES_AT_ONCE * TILE];
};

constexpr int64_t TILE_OF_SUMS = TILE * PITCH, ROW_OF_SUMS = PITCH * sizeof(int32_t);

// One span of rows. In the first of a product the sums of the product before are stored, when they have been ready for
// long, and begin anew.
template <int TILES, bool IS_FIRST>
inline void add_span(const int8_t* x, int64_t stride, const int8_t* weight, int32_t* before) {
    const int64_t below = TILE * stride;
    const bool has_before = IS_FIRST && before != nullptr;
    _tile_loadd(6, weight, SPAN);
    _tile_loadd(4, x, stride);
    if (has_before) _tile_stored(0, before, ROW_OF_SUMS);
    if (IS_FIRST) _tile_zero(0);
    _tile_dpbssd(0, 4, 6);
    if (TILES > 1) {
        _tile_loadd(5, x + below, stride);
        if (has_before) _tile_stored(1, before + TILE_OF_SUMS, ROW_OF_SUMS);
        if (IS_FIRST) _tile_zero(1);
        _tile_dpbssd(1, 5, 6);
    }
    if (TILES > 2) {
        _tile_loadd(4, x + 2 * below, stride);
        if (has_before) _tile_stored(2, before + 2 * TILE_OF_SUMS, ROW_OF_SUMS);
        if (IS_FIRST) _tile_zero(2);
        _tile_dpbssd(2, 4, 6);
    }
    if (TILES > 3) {
        _tile_loadd(5, x + 3 * below, stride);
        if (has_before) _tile_stored(3, before + 3 * TILE_OF_SUMS, ROW_OF_SUMS);
        if (IS_FIRST) _tile_zero(3);
        _tile_dpbssd(3, 5, 6);
    }
}

// Sums are tiles 0 to 3, rows tiles 4 and 5, the weight tile 6. `next(j)` says where that is.
template <int TILES, class Next>
inline void multiply_tiles(const int8_t* x, int64_t stride, const Spans& of, const Next& next, int32_t* before) {
    add_span<TILES, true>(x + of.spans[0].at, stride, next(0), before);
    for (int64_t j = 1; j < of.count; ++j) add_span<TILES, false>(x + of.spans[j].at, stride, next(j), nullptr);
}

template <int TILES>
inline void store_tiles(int32_t* sums) {
    _tile_stored(0, sums, ROW_OF_SUMS);
    if (TILES > 1) _tile_stored(1, sums + TILE_OF_SUMS, ROW_OF_SUMS);
    if (TILES > 2) _tile_stored(2, sums + 2 * TILE_OF_SUMS, ROW_OF_SUMS);
    if (TILES > 3) _tile_stored(3, sums + 3 * TILE_OF_SUMS, ROW_OF_SUMS);
}

// Source has bands of rows: `count` says how many, `bytes_of` makes Places of one.
template <class Source>
class ByteTiles {
  public:
    ByteTiles(Source& source, const Spans& spans, const SpreadWeight& weight, const Outputs& outputs)
        : source_(source), spans_(spans), weight_(weight), outputs_(outputs) {}

    // Outputs of panels [first, last), so many of which at a time that their bytes stay in the second cache.
    void multiply(int64_t first, int64_t last) {
        constexpr int64_t BYTES = 1 << 20;
        const int64_t block = spans_.count * SpreadWeight::TILE_BYTES, part = most(BYTES / block, 1) * PANELS;
        const TileConfiguration configuration;
        _tile_loadconfig(&configuration);
        for (first_ = first; first_ < last; first_ = last_) {
            last_ = least(first_ + part, last);
            bytes_ = static_cast<int8_t*>(scratch<SpreadWeight>(block * ceil_div(last_ - first_, PANELS)));
            is_spread_ = false;
            for (int64_t band = 0; band < source_.count(); ++band) multiply(source_.bytes_of(band));
        }
        _tile_release();
    }

  private:
    static constexpr int64_t PANELS = TILE / PANEL;
    // How many tiles of the weight are spread ahead of their use, and are kept where they are used but once.
    static constexpr int64_t AHEAD = 2, RING = 8;

    void multiply(const Places& of) {
        const int64_t tiles = ceil_div(of.count, TILE), groups = ceil_div(tiles, TILES_AT_ONCE);
        int64_t at = 0, row = of.first + of.column, column = of.column;
        is_used_once_ = groups == 1 && source_.count() == 1;
        for (int64_t i = 0; i < groups; ++i) {
            const int64_t count = tiles * (i + 1) / groups - at / TILE, begin = at, end = least(at + count * TILE, of.count);
            group_.count = 0;
            while (at < end) {
                const int64_t used = least(end - at, most(of.used - column, 0)), step = least(end - at, of.line - column);
                for (int64_t k = 0; k < used; ++k, ++group_.count) {
                    group_.rows[group_.count] = row++, group_.places[group_.count] = at + k - begin;
                }
                at += step, column = column + step == of.line ? 0 : column + step;
            }
            multiply(of.bytes + begin * of.stride, of.stride, count);
            is_spread_ = true;
        }
    }

    void multiply(const int8_t* x, int64_t stride, int64_t tiles) {
        switch (tiles) {
            case 1: return multiply<1>(x, stride);
            case 2: return multiply<2>(x, stride);
            case 3: return multiply<3>(x, stride);
            default: return multiply<4>(x, stride);
        }
    }

    // The sums of as many outputs as a row of sums has become outputs together.
    template <int TILES>
    void multiply(const int8_t* x, int64_t stride) {
        constexpr int64_t AT_ONCE = PITCH / PANEL;
        int8_t* weight = bytes_;
        for (int64_t first = first_; first < last_; first += AT_ONCE) {
            const int64_t last = least(first + AT_ONCE, last_);
            int32_t *sums = sums_, *before = nullptr;
            for (int64_t panel = first; panel < last; panel += PANELS, before = sums, sums += TILE) {
                multiply<TILES>(x, stride, panel, weight, before);
                if (!is_used_once_) weight += spans_.count * SpreadWeight::TILE_BYTES;
            }
            store_tiles<TILES>(before);
            const Channels channels = {first * PANEL, least(outputs_.channels, last * PANEL)};
            channels.count() > PITCH / 2 ? put<PITCH>(channels) : put<PITCH / 2>(channels);
        }
    }

    template <int TILES>
    void multiply(const int8_t* x, int64_t stride, int64_t panel, int8_t* weight, int32_t* before) {
        constexpr int64_t BYTES = SpreadWeight::TILE_BYTES;
        if (is_spread_) {
            const auto spread = [&](int64_t j) { return weight + j * BYTES; };
            return multiply_tiles<TILES>(x, stride, spans_, spread, before);
        }
        const int64_t ring = is_used_once_ ? RING - 1 : -1;
        const auto place = [&](int64_t j) { return weight + (j & ring) * BYTES; };
        for (int64_t j = 0; j < least(AHEAD, spans_.count); ++j) weight_.spread(panel, spans_.spans[j], place(j));
        const auto spread = [&](int64_t j) {
            const int64_t coming = j + AHEAD;
            if (coming < spans_.count) weight_.spread(panel, spans_.spans[coming], place(coming));
            asm volatile("" ::: "memory");  // which the loads of tiles do not say that they read
            return place(j);
        };
        multiply_tiles<TILES>(x, stride, spans_, spread, before);
    }

    template <int SIZE>
    void put(Channels channels) const {
        constexpr int ROWS = 4;
        int64_t at = 0;
        for (; at + ROWS <= group_.count; at += ROWS) put<ROWS, SIZE>(at, channels);
        for (; at < group_.count; ++at) put<1, SIZE>(at, channels);
    }

    template <int ROWS, int SIZE>
    void put(int64_t at, Channels channels) const {
        const auto sums = [&](int r, int64_t c) {
            return loaded<Ints<Avx512>>(sums_ + group_.places[at + r] * PITCH + c);
        };
        proxconnect::put<Avx512, ROWS, SIZE>(sums, outputs_, group_.rows + at, channels);
    }

    Source& source_;
    const Spans& spans_;
    const SpreadWeight& weight_;
    const Outputs& outputs_;
    int64_t first_ = 0, last_ = 0;
    bool is_spread_ = false, is_used_once_ = false;
    int8_t* bytes_ = nullptr;
    Group group_;
    alignas(64) int32_t sums_[TILES_AT_ONCE * TILE * PITCH];
};

}  // namespace
}  // namespace proxconnect
