// Products of rows of signs: the rows are packed once, then panels of the weight are shared out to the threads.
#include <algorithm>
#include <cstring>
#include <vector>

#include "all_channels.hpp"
#include "fused.hpp"
#include "kernels.hpp"
#include "sizes.hpp"
#include "threads.hpp"

using namespace proxconnect;

namespace {

// Rows of floats, `stride` from row to row, or of words, which follow each other.
struct Rows {
    Signed from;
    int64_t count, entries, stride;

    int64_t width() const { return words_of(entries); }
};

struct PackedRows {
    const uint64_t* words;
    const uint8_t* nan;
};

// In memory of this thread, until its next call, whichever threads pack and read them.
PackedRows packed(const Kernels& kernels, const Rows& rows, int32_t threads) {
    static thread_local std::vector<uint64_t> words;
    static thread_local std::vector<uint8_t> nan;
    const int64_t m = rows.count, width = rows.width();
    if (rows.from.words != nullptr && rows.from.nan != nullptr) return {rows.from.words, rows.from.nan};
    nan.assign(static_cast<size_t>(m), 0);
    if (rows.from.words != nullptr) return {rows.from.words, nan.data()};
    words.resize(static_cast<size_t>(m * width));
    uint64_t* const to = words.data();
    uint8_t* const is_nan = nan.data();
    in_parallel(m, 1, m * width < WORDS_WORTH_A_THREAD / 8 ? 1 : threads, [&](int64_t begin, int64_t end) {
        for (int64_t r = begin; r < end; ++r) {
            is_nan[r] = kernels.pack_row(rows.from.x + r * rows.stride, rows.entries, to + r * width);
        }
    });
    return {to, is_nan};
}

// Returns whether rows are NaN.
bool multiply(const Kernels& kernels, const Rows& rows, const uint64_t* panels, const Outputs& outputs,
              int32_t threads) {
    const int64_t m = rows.count, n = outputs.channels, width = words_of(n);
    if (m == 0) return false;
    const PackedRows of = packed(kernels, rows, threads);
    if (outputs.signs != nullptr) {
        std::memset(outputs.words, 0, static_cast<size_t>(m * width) * sizeof(uint64_t));
        if (outputs.nan != nullptr) std::memcpy(outputs.nan, of.nan, static_cast<size_t>(m));
    }
    Outputs mine = outputs;
    mine.nan = nullptr;  // which all threads would write
    const int64_t grain = outputs.signs == nullptr ? 4 : 8;  // panels, of which 8 are a word of signs
    in_parallel(panels_of(n), grain, m * n * rows.width() < WORDS_WORTH_A_THREAD ? 1 : threads,
                [&](int64_t begin, int64_t end) {
                    kernels.binary_linear(of.words, of.nan, panels, m, rows.entries, mine, begin, end);
                });
    return std::memchr(of.nan, 1, static_cast<size_t>(m)) != nullptr;
}

}  // namespace

int32_t px_binary_linear(int32_t isa, const float* x, int64_t m, int64_t entries, int64_t stride,
                         const uint64_t* panels, int64_t n, const Output* output, float* y, int32_t threads) {
    const Kernels* kernels = kernels_of(isa);
    if (kernels == nullptr) return 1;
    const Outputs outputs = outputs_of(with_all_channels(*output, n), n, y);
    multiply(*kernels, {{x, nullptr, nullptr}, m, entries, stride}, panels, outputs, threads);
    return 0;
}

int32_t px_fused_linear(int32_t isa, const float* x, const uint64_t* words, const uint8_t* input_nan, int64_t m,
                        int64_t entries, int64_t stride, const uint64_t* panels, int64_t n, const Fused* fused,
                        const float* const* others, void* output, uint8_t* nan, int32_t threads) {
    const Kernels* kernels = kernels_of(isa);
    if (kernels == nullptr) return 1;
    const Outputs outputs = outputs_of(*fused, n, others, output, nan);
    const Rows rows = {{x, words, input_nan}, m, entries, stride};
    return is_nan_lost(outputs, multiply(*kernels, rows, panels, outputs, threads)) ? 2 : 0;
}
