// Products of rows of bytes with a weight of signs by AMX, two tiles of sixteen rows with two of sixteen outputs at a
// time, and what becomes of the sums.
#pragma once

#include "amx.hpp"
#include "avx512.hpp"
#include "byte_signs.hpp"
#include "scratch.hpp"

namespace proxconnect {
namespace {

constexpr int64_t TILE = 16, PAIR = 2 * TILE;

// Rows that begin `stride` bytes apart, of which each `used` of `line` are rows of the outputs, the others nothing. Whole
// pairs of tiles are read.
struct Places {
    const int8_t* bytes;
    int64_t stride, count, line, used, first_column, first_row;
    const Span* spans;
    int64_t span_count;
};

// Which rows of a pair of tiles become which rows of the outputs.
struct Targets {
    int64_t count, rows[PAIR], places[PAIR];
};

// Sums of a pair of tiles that are not yet outputs.
struct Waiting {
    const int32_t* sums;
    const Targets* targets = nullptr;
    Channels channels;
};

// Sums are tiles 0 to 3, rows tiles 4 and 5, the weight tiles 6 and 7.
template <bool HAS_ROWS, bool HAS_OUTPUTS>  // of the second tile
inline void multiply_tiles(const int8_t* x, const Places& of, const int8_t* weight) {
    _tile_zero(0);
    if (HAS_OUTPUTS) _tile_zero(1);
    if (HAS_ROWS) _tile_zero(2);
    if (HAS_ROWS && HAS_OUTPUTS) _tile_zero(3);
    const int8_t* const below = x + TILE * of.stride;
    for (int64_t j = 0; j < of.span_count; ++j, weight += 2 * SpreadWeight::TILE_BYTES) {
        const int64_t at = of.spans[j].at;
        _tile_loadd(6, weight, SPAN);
        _tile_loadd(4, x + at, of.stride);
        _tile_dpbssd(0, 4, 6);
        if (HAS_OUTPUTS) {
            _tile_loadd(7, weight + SpreadWeight::TILE_BYTES, SPAN);
            _tile_dpbssd(1, 4, 7);
        }
        if (HAS_ROWS) {
            _tile_loadd(5, below + at, of.stride);
            _tile_dpbssd(2, 5, 6);
            if (HAS_OUTPUTS) _tile_dpbssd(3, 5, 7);
        }
    }
}

template <bool HAS_ROWS, bool HAS_OUTPUTS>
inline void store_tiles(int32_t* sums) {
    constexpr int64_t PITCH = PAIR * sizeof(int32_t);
    _tile_stored(0, sums, PITCH);
    if (HAS_OUTPUTS) _tile_stored(1, sums + TILE, PITCH);
    if (HAS_ROWS) _tile_stored(2, sums + TILE * PAIR, PITCH);
    if (HAS_ROWS && HAS_OUTPUTS) _tile_stored(3, sums + TILE * PAIR + TILE, PITCH);
}

class ByteTiles {
  public:
    ByteTiles(const Places& of, const SpreadWeight& weight, const Outputs& outputs)
        : of_(of), weight_(weight), outputs_(outputs), pairs_(ceil_div(of.count, PAIR)) {
        targets_ = static_cast<Targets*>(scratch<Targets>(pairs_ * static_cast<int64_t>(sizeof(Targets))));
        bytes_ = static_cast<int8_t*>(scratch<SpreadWeight>(of.span_count * 2 * SpreadWeight::TILE_BYTES));
        for (int64_t pair = 0; pair < pairs_; ++pair) aim(pair, targets_[pair]);
    }

    // Outputs of panels [first, last).
    void multiply(int64_t first, int64_t last) {
        const TileConfiguration configuration;
        _tile_loadconfig(&configuration);
        for (int64_t panel = first; panel < last; panel += PANELS) {
            const bool has_two = panel + PANELS / 2 < last;
            spread(panel, has_two);
            const Channels channels = {panel * PANEL, least(outputs_.channels, last * PANEL)};
            const int64_t whole = pairs_ - (of_.count % PAIR != 0 && of_.count % PAIR <= TILE);
            for (int64_t pair = 0; pair < whole; ++pair) {
                has_two ? multiply<true, true>(pair, channels) : multiply<true, false>(pair, channels);
            }
            if (whole == pairs_) continue;
            has_two ? multiply<false, true>(whole, channels) : multiply<false, false>(whole, channels);
        }
        put();
        _tile_release();
    }

  private:
    static constexpr int64_t PANELS = PAIR / PANEL;

    void aim(int64_t pair, Targets& targets) const {
        targets.count = 0;
        for (int64_t i = 0; i < least(PAIR, of_.count - pair * PAIR); ++i) {
            const int64_t at = of_.first_column + pair * PAIR + i, column = at % of_.line;
            if (column >= of_.used) continue;
            targets.rows[targets.count] = of_.first_row + at / of_.line * of_.used + column;
            targets.places[targets.count++] = i;
        }
    }

    void spread(int64_t panel, bool has_two) {
        int8_t* to = bytes_;
        for (int64_t j = 0; j < of_.span_count; ++j, to += 2 * SpreadWeight::TILE_BYTES) {
            weight_.spread(panel, of_.spans[j], to);
            if (has_two) weight_.spread(panel + PANELS / 2, of_.spans[j], to + SpreadWeight::TILE_BYTES);
        }
        asm volatile("" ::: "memory");  // which the loads of tiles do not say that they read
    }

    // The sums of the pair before become outputs while the tiles are at work.
    template <bool HAS_ROWS, bool HAS_OUTPUTS>
    void multiply(int64_t pair, Channels channels) {
        multiply_tiles<HAS_ROWS, HAS_OUTPUTS>(of_.bytes + pair * PAIR * of_.stride, of_, bytes_);
        put();
        int32_t* const sums = sums_[is_second_];
        is_second_ = !is_second_;
        store_tiles<HAS_ROWS, HAS_OUTPUTS>(sums);
        waiting_ = {sums, targets_ + pair, channels};
    }

    void put() {
        if (waiting_.targets == nullptr) return;
        const Targets& targets = *waiting_.targets;
        int64_t at = 0;
        for (; at + ROWS <= targets.count; at += ROWS) put<ROWS>(targets, at);
        for (; at < targets.count; ++at) put<1>(targets, at);
    }

    template <int COUNT>
    void put(const Targets& targets, int64_t at) {
        Channels channels = waiting_.channels;
        channels.end = least(channels.end, channels.begin + PAIR);
        const int32_t* const from = waiting_.sums;
        const auto sums = [&](int r, int64_t c) {
            return loaded<Ints<Avx512>>(from + targets.places[at + r] * PAIR + c);
        };
        proxconnect::put<Avx512, COUNT, PAIR>(sums, outputs_, targets.rows + at, channels);
    }

    const Places& of_;
    const SpreadWeight& weight_;
    const Outputs& outputs_;
    const int64_t pairs_;
    Targets* targets_;
    int8_t* bytes_;
    Waiting waiting_ = {};
    bool is_second_ = false;
    alignas(64) int32_t sums_[2][PAIR * PAIR];
};

}  // namespace
}  // namespace proxconnect
