// Binary weights, in the panels of proxconnect.h.
#pragma once

#include <vector>

#include "fuzz/entries.hpp"

namespace fuzz {

inline int64_t words_of(int64_t entries) { return (entries + 63) / 64; }

// Draw signs of `rows` rows, of several groups one after the other.
class SignWeight {
  public:
    SignWeight(Draws& draws, int64_t groups, int64_t rows, int64_t entries)
        : rows_(rows), entries_(entries), signs_(static_cast<size_t>(groups * rows * entries)),
          panels_(groups * ((rows + 7) / 8) * words_of(entries) * 8, draws.coin()) {
        std::fill(panels_.begin(), panels_.end(), 0);
        for (size_t i = 0; i < signs_.size(); ++i) put(static_cast<int64_t>(i), draws.random() >> 63);
    }

    const uint64_t* panels() const { return panels_.data(); }
    const int8_t* row(int64_t row) const { return signs_.data() + row * entries_; }

  private:
    void put(int64_t i, uint64_t bit) {
        const int64_t row = i / entries_, in_group = row % rows_, k = i % entries_;
        const int64_t panel = row / rows_ * ((rows_ + 7) / 8) + in_group / 8;
        signs_[static_cast<size_t>(i)] = bit == 1 ? 1 : -1;
        panels_[(panel * words_of(entries_) + k / 64) * 8 + in_group % 8] |= bit << (k % 64);
    }

    int64_t rows_, entries_;
    std::vector<int8_t> signs_;
    Guarded<uint64_t> panels_;
};

}  // namespace fuzz
