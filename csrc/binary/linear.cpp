// Binary Linear: pack a block of rows, then share rows and panels of the weight among threads.
#include <cstring>

#include "epilogue/outputs_of.hpp"
#include "isa/kernels.hpp"
#include "runtime/parts.hpp"
#include "runtime/row_blocks.hpp"
#include "runtime/scratch.hpp"
#include "runtime/status.hpp"
#include "runtime/threads.hpp"

using namespace proxconnect;

namespace {

// Rows of floats, `stride` apart, or of words, which are adjacent.
struct Rows {
    Signed from;
    int64_t count, entries, stride;

    int64_t width() const { return words_of(entries); }
    int64_t bytes_of_row() const { return width() * static_cast<int64_t>(sizeof(uint64_t)) + 1; }  // packed, and if NaN

    Rows block(int64_t begin, int64_t end) const {
        Rows rows = *this;
        rows.count = end - begin;
        if (from.x != nullptr) rows.from.x += begin * stride;
        if (from.words != nullptr) rows.from.words += begin * width();
        if (from.nan != nullptr) rows.from.nan += begin;
        return rows;
    }
};

// The result lies in memory of this thread until its next call, even if other threads pack and read it.
SignRows packed(const Kernels& kernels, const Rows& rows, int32_t threads) {
    const int64_t m = rows.count, width = rows.width();
    if (rows.from.words != nullptr && rows.from.nan != nullptr) return {rows.from.words, rows.from.nan, m, rows.entries};
    auto* const is_nan = scratch<uint8_t>(m);
    std::memset(is_nan, 0, static_cast<size_t>(m));
    if (rows.from.words != nullptr) return {rows.from.words, is_nan, m, rows.entries};
    auto* const to = scratch<uint64_t>(m * width);
    const int32_t workers = threads_for(1.0 * m * width, WORDS_WORTH_A_THREAD / 8, threads);
    in_parallel(m, 1, workers, [&](int64_t begin, int64_t end) {
        for (int64_t r = begin; r < end; ++r) {
            is_nan[r] = kernels.pack_row(rows.from.x + r * rows.stride, rows.entries, to + r * width);
        }
    });
    return {to, is_nan, m, rows.entries};
}

// Multiply one block of rows. Return true if a row is NaN.
bool multiply_block(const Kernels& kernels, const Rows& rows, const uint64_t* panels, const Outputs& outputs,
                    int32_t threads) {
    const int64_t m = rows.count, n = outputs.channels, width = words_of(n);
    const SignRows of = packed(kernels, rows, threads);
    if (outputs.signs != nullptr) {
        std::memset(outputs.words + outputs.first * width, 0, static_cast<size_t>(m * width) * sizeof(uint64_t));
        if (outputs.nan != nullptr) std::memcpy(outputs.nan + outputs.first, of.nan, static_cast<size_t>(m));
    }
    Outputs mine = outputs;
    mine.nan = nullptr;  // which all threads would write
    constexpr int64_t GRAIN = 8;  // panels, which are a word of signs
    const double work = 1.0 * m * n * rows.width();
    const Parts parts(m, panels_of(n), GRAIN, work, WORDS_WORTH_A_THREAD, threads);
    in_parts(parts.count(), parts.threads(), [&](int64_t part) {
        parts.each(part, [&](int64_t row, int64_t last_row, int64_t begin, int64_t end) {
            Outputs here = mine;
            here.first += row;
            const SignRows some = {of.words + row * rows.width(), of.nan + row, last_row - row, of.entries};
            kernels.binary_linear(some, panels, here, begin, end);
        });
    });
    return std::memchr(of.nan, 1, static_cast<size_t>(m)) != nullptr;
}

bool multiply(const Kernels& kernels, const Rows& rows, const uint64_t* panels, const Outputs& outputs,
              int32_t threads) {
    bool has_nan = false;
    in_row_blocks(rows.count, rows.bytes_of_row(), [&](int64_t begin, int64_t end) {
        Outputs here = outputs;
        here.first = begin;
        has_nan |= multiply_block(kernels, rows.block(begin, end), panels, here, threads);
    });
    return has_nan;
}

}  // namespace

int32_t px_binary_linear(int32_t isa, const float* x, const uint64_t* words, const uint8_t* input_nan, int64_t m,
                         int64_t entries, int64_t stride, const uint64_t* panels, int64_t n, const Fused* fused,
                         const float* const* others, uint8_t* nan, void* output, int32_t threads) {
    return status_of(isa, [&](const Kernels& kernels) {
        const Outputs outputs = outputs_of(*fused, n, others, output, nan);
        const Rows rows = {{x, words, input_nan}, m, entries, stride};
        return is_nan_lost(outputs, multiply(kernels, rows, panels, outputs, threads)) ? NOT_TAKEN : DONE;
    });
}
