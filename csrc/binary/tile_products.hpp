// Products of rows of signs, as bytes, with a binary weight, whose bits are spread to bytes at their first use.
#pragma once

#include "binary/byte_signs.hpp"
#include "binary/pending_sums.hpp"
#include "isa/amx.hpp"
#include "runtime/scratch.hpp"

namespace proxconnect {
namespace {

// Where the entries of a row lie.
struct Spans {
    const Span* spans;
    int64_t count;
};

// Rows `stride` bytes apart. The first `used` rows of each `line` are rows of the outputs, from row `first` on; the
// others are unused. The first row is column `column` of a line. Whole tiles are read.
struct Places {
    const int8_t* bytes;
    int64_t stride, count, line, used, column, first;
};

// The rows of a few tiles, one group after another.
class Groups {
  public:
    explicit Groups(const Places& of)
        : of_(of), tiles_(ceil_div(of.count, TILE_ROWS)), row_(of.first + of.column), column_(of.column) {}

    int64_t count() const { return ceil_div(tiles_, TILES_AT_ONCE); }
    int64_t tiles() const { return ceil_div(at_ - begin_, TILE_ROWS); }
    const int8_t* bytes() const { return of_.bytes + begin_ * of_.stride; }
    int64_t stride() const { return of_.stride; }

    // Go to group i, which must follow the one before.
    void go_to(int64_t i, Targets& targets) {
        begin_ = at_, targets.count = 0;
        const int64_t end = least(tiles_ * (i + 1) / count() * TILE_ROWS, of_.count);
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

// The sums of TILES tiles of rows with sixteen outputs.
template <int TILES>
using SignSums = TileSums<Factors::SIGNED_BYTES, TILES, 1>;

// Source has bands of rows: `count` of them, and `bytes_of` returns the Places of one.
template <class Source>
class SignProducts {
  public:
    SignProducts(const Source& source, const Spans& spans, const SpreadWeight& weight, const Outputs& outputs)
        : source_(source), spans_(spans), weight_(weight), channels_(outputs.channels), sums_(outputs) {}

    // Compute the outputs of panels [first, last), a few at a time, so that their bytes stay in the second cache.
    void multiply(int64_t first, int64_t last) {
        constexpr int64_t BYTES = 1 << 20;
        const int64_t block = spans_.count * TILE_BYTES, part = most(BYTES / block, 1) * PANELS;
        bytes_ = scratch<int8_t, SpreadWeight>(block * ceil_div(least(part, last - first), PANELS));
        const ConfiguredTiles configured;
        for (first_ = first; first_ < last; first_ = last_) {
            last_ = least(first_ + part, last);
            is_spread_ = false;
            for (int64_t band = 0; band < source_.count(); ++band) multiply(source_.bytes_of(band));
        }
        sums_.put_all();
    }

  private:
    static constexpr int64_t PANELS = TILE_ROWS / PANEL;
    // The number of weight tiles that are spread ahead of their use, and that are kept if they are used only once.
    static constexpr int64_t AHEAD = 2, RING = 4;

    void multiply(const Places& of) {
        Groups groups(of);
        is_used_once_ = groups.count() == 1 && source_.count() == 1;
        for (int64_t i = 0; i < groups.count(); ++i) {
            is_second_ = !is_second_;
            groups.go_to(i, targets_[is_second_]);
            with_constant<TILES_AT_ONCE>(groups.tiles(), [&](auto tiles) { multiply<tiles>(groups); });
            is_spread_ = true;
        }
    }

    // Multiply a row of sums, PITCH outputs, then hold these sums until they become outputs.
    template <int TILES>
    void multiply(const Groups& of) {
        constexpr int64_t AT_ONCE = PITCH / PANEL;
        int8_t* weight = bytes_;
        for (int64_t first = first_; first < last_; first += AT_ONCE) {
            const int64_t last = least(first + AT_ONCE, last_);
            int32_t *sums = sums_.next(), *before = nullptr;
            for (int64_t panel = first; panel < last; panel += PANELS, before = sums, sums += TILE_ROWS) {
                multiply<TILES>(of, panel, weight, before);
                if (!is_used_once_) weight += spans_.count * TILE_BYTES;
            }
            SignSums<TILES>::store(sum_tiles(before, PITCH));
            sums_.hold(targets_[is_second_], {first * PANEL, least(channels_, last * PANEL)});
        }
    }

    template <int TILES>
    void multiply(const Groups& of, int64_t panel, int8_t* weight, int32_t* before) {
        if (is_spread_) {
            const auto next = [&](int64_t j) {
                sums_.put_some();
                return weight + j * TILE_BYTES;
            };
            return multiply_tiles<TILES>(of, next, before);
        }
        const int64_t ring = is_used_once_ ? RING - 1 : -1;
        const auto place = [&](int64_t j) { return weight + (j & ring) * TILE_BYTES; };
        for (int64_t j = 0; j < least(AHEAD, spans_.count); ++j) weight_.spread(panel, spans_.spans[j], place(j));
        const auto next = [&](int64_t j) {
            sums_.put_some();
            const int64_t coming = j + AHEAD;
            if (coming < spans_.count) weight_.spread(panel, spans_.spans[coming], place(coming));
            return place(j);
        };
        multiply_tiles<TILES>(of, next, before);
    }

    // next(j) returns the weight of span j. The sums of the product before, if any, are stored during the first span,
    // because they are ready by then.
    template <int TILES, class Next>
    void multiply_tiles(const Groups& of, const Next& next, int32_t* before) {
        using Sums = SignSums<TILES>;
        const int8_t* const x = of.bytes();
        const int64_t stride = of.stride();
        const Span* const spans = spans_.spans;
        const auto rows = [&](int64_t j) { return FactorTiles{x + spans[j].at, stride, TILE_ROWS * stride}; };
        Sums::add(rows(0), {next(0)}, [&](auto sum) ALWAYS_INLINE {
            if (before != nullptr) Sums::store(sum_tiles(before, PITCH), sum);
            zero_tile<decltype(sum)::value>();
        });
        for (int64_t j = 1; j < spans_.count; ++j) Sums::add(rows(j), {next(j)});
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
