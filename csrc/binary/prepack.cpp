// Binary weights in panels, from bits without gaps.
#include <cstring>

#include "binary/signs.hpp"
#include "runtime/scratch.hpp"
#include "runtime/status.hpp"
#include "runtime/threads.hpp"

using namespace proxconnect;

namespace {

// Copy up to eight rows, which begin `first` bits after `bits`, to a panel of zeros.
void copy_rows(const uint8_t* bits, int64_t first, int64_t rows, int64_t columns, uint64_t* panel) {
    const int64_t bytes = ceil_div(first % 8 + rows * columns, 8);
    auto* const copy = scratch<uint64_t, struct AlignedRows>(bytes / 8 + 3);
    std::memcpy(copy, bits + first / 8, static_cast<size_t>(bytes));
    for (int64_t r = 0; r < rows; ++r, ++panel) {
        const int64_t begin = first % 8 + r * columns, whole = begin % 64 == 0 ? columns / 64 : 0;
        for (int64_t j = 0; j < whole; ++j) panel[j * PANEL] = copy[begin / 64 + j];
        for (int64_t k = whole * 64; k < columns; k += 64) {
            panel[k / 64 * PANEL] = bits_at(copy, begin + k, least(64, columns - k));
        }
    }
}

// Exchange the number of a word, of eight, with the place of a bit in its byte. A second call undoes the first.
void exchange(uint64_t* words) {
    for (int distance = 1; distance < 8; distance *= 2) {
        for (int i = 0; i < 8; ++i) {
            if ((i & distance) != 0) continue;
            const uint64_t lower = ~uint64_t{0} / ((1u << distance) + 1);  // half of the bits, in runs of `distance`
            const uint64_t change = (words[i] >> distance ^ words[i + distance]) & lower;
            words[i] ^= change << distance;
            words[i + distance] ^= change;
        }
    }
}

// Return which byte of a panel holds the signs of a column after `exchange`.
int64_t byte_of(int64_t column) { return column / 64 * 64 + column % 8 * 8 + column / 8 % 8; }

// Move the columns of a panel. After `exchange`, byte i of the new one is byte sources[i] of the old one.
void move_columns(int64_t bytes, const uint32_t* sources, uint64_t* panel) {
    auto* const old = scratch<uint8_t, struct OldPanel>(bytes);
    for (int64_t j = 0; j < bytes / 8; j += PANEL) exchange(panel + j);
    std::memcpy(old, panel, static_cast<size_t>(bytes));
    for (int64_t i = 0; i < bytes; ++i) reinterpret_cast<uint8_t*>(panel)[i] = old[sources[i]];
    for (int64_t j = 0; j < bytes / 8; j += PANEL) exchange(panel + j);
}

}  // namespace

int32_t px_prepack_signs(int32_t isa, const uint8_t* bits, int64_t groups, int64_t outputs, int64_t channels,
                         int64_t taps, uint64_t* panels, int32_t threads) {
    return status_of(isa, [&](const Kernels&) {
        const int64_t columns = channels * taps, words = words_of(columns) * PANEL, of_group = panels_of(outputs);
        auto* const sources = scratch<uint32_t, struct Sources>(words * 8);
        for (int64_t k = 0; taps > 1 && k < words * 8; ++k) {
            const int64_t source = k < columns ? k % channels * taps + k / channels : k;
            sources[byte_of(k)] = static_cast<uint32_t>(byte_of(source));
        }
        const int32_t workers = threads_for(1.0 * groups * of_group * words, WORDS_WORTH_A_THREAD / 8, threads);
        in_parallel(groups * of_group, 1, workers, [&](int64_t begin, int64_t end) {
            for (int64_t p = begin; p < end; ++p) {
                const int64_t past = p % of_group * PANEL, row = p / of_group * outputs + past;
                std::fill_n(panels + p * words, words, 0);
                copy_rows(bits, row * columns, least(PANEL, outputs - past), columns, panels + p * words);
                if (taps > 1) move_columns(words * 8, sources, panels + p * words);
            }
        });
        return DONE;
    });
}
