// A product, cut into parts of equal work that threads share.
#pragma once

#include <cstdint>

#include "runtime/sizes.hpp"
#include "runtime/threads.hpp"

namespace proxconnect {
namespace {

// The outputs are cut into columns of `grain` outputs, and the rows into stripes. A part is a run of adjacent cells:
// those of one column, then those of the next.
class Parts {
  public:
    // `worth` is the work that is worth a thread.
    Parts(int64_t rows, int64_t outputs, int64_t grain, double work, int64_t worth, int32_t threads)
        : rows_(rows), outputs_(outputs), grain_(grain), columns_(ceil_div(outputs, grain)) {
        const double busy = work / static_cast<double>(worth);
        threads_ = most(busy < threads ? static_cast<int64_t>(busy) : threads, 1);
        if (threads_ == 1) return;
        stripes_ = most(1, least(ceil_div(PARTS * CELLS * threads_, columns_), rows / LEAST_ROWS));
        count_ = least(PARTS * threads_, columns_ * stripes_);
    }

    int64_t count() const { return count_; }
    int32_t threads() const { return static_cast<int32_t>(threads_); }

    // Call work(first row, last row, first output, last output) for the rectangles of a part, at most three.
    template <class Work>
    void each(int64_t part, const Work& work) const {
        const int64_t cells = columns_ * stripes_, end = cells * (part + 1) / count_;
        for (int64_t cell = cells * part / count_; cell < end;) {
            const int64_t column = cell / stripes_, stripe = cell % stripes_;
            const bool is_whole = stripe == 0 && end - cell >= stripes_;
            const int64_t columns = is_whole ? (end - cell) / stripes_ : 1;
            const int64_t stripes = is_whole ? stripes_ : least(stripes_ - stripe, end - cell);
            const int64_t past = least((column + columns) * grain_, outputs_);
            work(row_of(stripe), row_of(stripe + stripes), column * grain_, past);
            cell += columns * stripes;
        }
    }

  private:
    // Parts of a thread, so that it can do more while another is late; cells of a part; rows of a stripe.
    static constexpr int64_t PARTS = 4, CELLS = 4, LEAST_ROWS = 16;

    // Return where a stripe begins: at a multiple of four rows.
    int64_t row_of(int64_t stripe) const { return stripe == stripes_ ? rows_ : rows_ * stripe / stripes_ / 4 * 4; }

    const int64_t rows_, outputs_, grain_, columns_;
    int64_t threads_ = 1, stripes_ = 1, count_ = 1;
};

}  // namespace
}  // namespace proxconnect
