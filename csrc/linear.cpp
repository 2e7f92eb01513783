// Products of rows of signs: the rows are packed once, then panels of the weight are shared out to the threads.
#include <vector>

#include "all_channels.hpp"
#include "kernels.hpp"
#include "sizes.hpp"
#include "threads.hpp"

using namespace proxconnect;

int32_t px_binary_linear(int32_t isa, const float* x, int64_t m, int64_t entries, int64_t stride,
                         const uint64_t* panels, int64_t n, const Output* output, float* y, int32_t threads) {
    const Kernels* kernels = kernels_of(isa);
    if (kernels == nullptr) return 1;
    if (m == 0) return 0;
    const Outputs outputs = {with_all_channels(*output, n), n, 0, y};
    const int64_t width = words_of(entries);
    static thread_local std::vector<uint64_t> words;  // kept from call to call
    static thread_local std::vector<uint8_t> nan;
    words.resize(static_cast<size_t>(m * width));
    nan.resize(static_cast<size_t>(m));
    uint64_t* const rows = words.data();  // of this thread, whichever runs what follows
    uint8_t* const is_nan = nan.data();
    in_parallel(m, 1, m * width < WORDS_WORTH_A_THREAD / 8 ? 1 : threads, [&](int64_t begin, int64_t end) {
        for (int64_t r = begin; r < end; ++r) is_nan[r] = kernels->pack_row(x + r * stride, entries, rows + r * width);
    });
    in_parallel(panels_of(n), 4, m * n * width < WORDS_WORTH_A_THREAD ? 1 : threads,
                [&](int64_t begin, int64_t end) {
                    kernels->binary_linear(rows, is_nan, panels, m, entries, outputs, begin, end);
                });
    return 0;
}
