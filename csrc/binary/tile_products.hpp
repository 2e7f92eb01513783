// Products of rows of signs, as bytes, with a weight of signs, whose bits become bytes where they are used first.
#pragma once

#include "binary/pending_sums.hpp"
#include "runtime/scratch.hpp"

namespace proxconnect {
namespace {

// Rows that begin `stride` bytes apart, of which the first `used` of each `line` are rows of the outputs, from row
// `first` on, the others nothing; the first row is of column `column` of a line. Whole tiles are read.
struct Places {
    const int8_t* bytes;
    int64_t stride, count, line, used, column, first;
};

// The rows of some tiles, one group after another.
class Groups {
  public:
    explicit Groups(const Places& of)
        : of_(of), tiles_(ceil_div(of.count, TILE)), row_(of.first + of.column), column_(of.column) {}

    int64_t count() const { return ceil_div(tiles_, TILES_AT_ONCE); }
    int64_t tiles() const { return ceil_div(at_ - begin_, TILE); }
    const int8_t* bytes() const { return of_.bytes + begin_ * of_.stride; }
    int64_t stride() const { return of_.stride; }

    // Goes to group i, which comes after the one before.
    void go_to(int64_t i, Targets& targets) {
        begin_ = at_, targets.count = 0;
        const int64_t end = least(tiles_ * (i + 1) / count() * TILE, of_.count);
        while (at_ < end) {
            const int64_t step = least(end - at_, of_.line - column_), used = least(step, of_.used - column_);
            for (int64_t k = 0; k < used; ++k, ++targets.count) {
                targets.rows[targets.count] = row_++, targets.places[targets.count] = at_ - begin_ + k;
            }
            at_ += step, column_ = column_ + step == of_.line ? 0 : column_ + step;
        }
    }

  private:
    const Places& of_;
    const int64_t tiles_;
    int64_t row_, column_, begin_ = 0, at_ = 0;
};

// Source has bands of rows: `count` says how many, `bytes_of` makes Places of one.
template <class Source>
class SignProducts {
  public:
    SignProducts(const Source& source, const Spans& spans, const SpreadWeight& weight, const Outputs& outputs)
        : source_(source), spans_(spans), weight_(weight), channels_(outputs.channels), sums_(outputs) {}

    // Outputs of panels [first, last), so many of which at a time that their bytes stay in the second cache.
    void multiply(int64_t first, int64_t last) {
        constexpr int64_t BYTES = 1 << 20;
        const int64_t block = spans_.count * SpreadWeight::TILE_BYTES, part = most(BYTES / block, 1) * PANELS;
        bytes_ = static_cast<int8_t*>(scratch<SpreadWeight>(block * ceil_div(least(part, last - first), PANELS)));
        const TileConfiguration configuration;
        _tile_loadconfig(&configuration);
        for (first_ = first; first_ < last; first_ = last_) {
            last_ = least(first_ + part, last);
            is_spread_ = false;
            for (int64_t band = 0; band < source_.count(); ++band) multiply(source_.bytes_of(band));
        }
        sums_.put_all();
        _tile_release();
    }

  private:
    static constexpr int64_t PANELS = TILE / PANEL;
    // How many tiles of the weight are spread before they are used, and are kept where they are used but once.
    static constexpr int64_t AHEAD = 2, RING = 4;

    void multiply(const Places& of) {
        Groups groups(of);
        is_used_once_ = groups.count() == 1 && source_.count() == 1;
        for (int64_t i = 0; i < groups.count(); ++i) {
            is_second_ = !is_second_;
            groups.go_to(i, targets_[is_second_]);
            switch (groups.tiles()) {
                case 1: multiply<1>(groups); break;
                case 2: multiply<2>(groups); break;
                case 3: multiply<3>(groups); break;
                default: multiply<4>(groups);
            }
            is_spread_ = true;
        }
    }

    // The sums of as many outputs as a row of sums has become outputs together.
    template <int TILES>
    void multiply(const Groups& of) {
        constexpr int64_t AT_ONCE = PITCH / PANEL;
        int8_t* weight = bytes_;
        for (int64_t first = first_; first < last_; first += AT_ONCE) {
            const int64_t last = least(first + AT_ONCE, last_);
            int32_t *sums = sums_.next(), *before = nullptr;
            for (int64_t panel = first; panel < last; panel += PANELS, before = sums, sums += TILE) {
                multiply<TILES>(of, panel, weight, before);
                if (!is_used_once_) weight += spans_.count * SpreadWeight::TILE_BYTES;
            }
            store_tiles<TILES>(before);
            sums_.hold(targets_[is_second_], {first * PANEL, least(channels_, last * PANEL)});
        }
    }

    template <int TILES>
    void multiply(const Groups& of, int64_t panel, int8_t* weight, int32_t* before) {
        constexpr int64_t BYTES = SpreadWeight::TILE_BYTES;
        if (is_spread_) {
            const auto next = [&](int64_t j) {
                sums_.put_some();
                return weight + j * BYTES;
            };
            return multiply_tiles<TILES>(of.bytes(), of.stride(), spans_, next, before);
        }
        const int64_t ring = is_used_once_ ? RING - 1 : -1;
        const auto place = [&](int64_t j) { return weight + (j & ring) * BYTES; };
        for (int64_t j = 0; j < least(AHEAD, spans_.count); ++j) weight_.spread(panel, spans_.spans[j], place(j));
        const auto next = [&](int64_t j) {
            sums_.put_some();
            const int64_t coming = j + AHEAD;
            if (coming < spans_.count) weight_.spread(panel, spans_.spans[coming], place(coming));
            asm volatile("" ::: "memory");  // which the loads of tiles do not say that they read
            return place(j);
        };
        multiply_tiles<TILES>(of.bytes(), of.stride(), spans_, next, before);
    }

    const Source& source_;
    const Spans& spans_;
    const SpreadWeight& weight_;
    const int64_t channels_;
    int64_t first_ = 0, last_ = 0;
    bool is_spread_ = false, is_used_once_ = false, is_second_ = false;
    int8_t* bytes_ = nullptr;
    Targets targets_[2];  // of this group, and of that before, whose sums may wait
    PendingSums sums_;
};

}  // namespace
}  // namespace proxconnect
