#include <algorithm>
#include <vector>

#include "kernels.hpp"
#include "prepared.hpp"
#include "threads.hpp"

namespace proxconnect {

const Kernels* kernels_of(int32_t isa) {
    switch (isa) {
        case PORTABLE: return &portable_kernels;
#if defined(__x86_64__)
        case AVX2:
            return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi2") && __builtin_cpu_supports("fma") &&
                           __builtin_cpu_supports("popcnt")
                       ? &avx2_kernels
                       : nullptr;
        case AVX512:
            return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
                           __builtin_cpu_supports("avx512vpopcntdq") && __builtin_cpu_supports("avx512bitalg") &&
                           __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512vbmi") &&
                           __builtin_cpu_supports("bmi2")
                       ? &avx512_kernels
                       : nullptr;
#elif defined(__aarch64__)
        case NEON: return &neon_kernels;
#endif
        default: return nullptr;
    }
}

Output with_all_channels(const Output& output, int64_t channels) {
    constexpr float NO_BIAS = -0.0f;  // the one number that changes none when it is added
    constexpr int64_t BEYOND = 80;
    static thread_local std::vector<float> scale, bias;
    scale.assign(static_cast<size_t>(channels + BEYOND), output.scales == 1 ? *output.scale : 1.0f);
    bias.assign(static_cast<size_t>(channels + BEYOND), NO_BIAS);
    if (output.scale != nullptr && output.scales != 1) std::copy_n(output.scale, channels, scale.begin());
    if (output.bias != nullptr) std::copy_n(output.bias, channels, bias.begin());
    for (int64_t i = 0; i < BEYOND; ++i) {
        const size_t first = static_cast<size_t>(i), again = static_cast<size_t>(channels + i);
        scale[again] = scale[first], bias[again] = bias[first];
    }
    Output whole = output;
    whole.scale = scale.data(), whole.bias = bias.data();
    return whole;
}

}  // namespace proxconnect

using namespace proxconnect;

namespace {

// So many entries of a quantizer take as long.
constexpr int64_t ENTRIES_WORTH_A_THREAD = 1 << 15;

int64_t rows_of(int64_t entries, int64_t columns) { return columns == 0 ? 0 : (entries + columns - 1) / columns; }

}  // namespace

int32_t px_supports(int32_t isa) { return kernels_of(isa) != nullptr; }

int32_t px_binary_linear(int32_t isa, const float* x, int64_t m, int64_t entries, int64_t stride,
                         const uint64_t* panels, int64_t n, const Output* output, float* y, int32_t threads) {
    const Kernels* kernels = kernels_of(isa);
    if (kernels == nullptr) return 1;
    if (m == 0) return 0;
    const Output whole = with_all_channels(*output, n);
    const int64_t width = (entries + 63) / 64;
    static thread_local std::vector<uint64_t> words;  // kept from call to call
    static thread_local std::vector<uint8_t> nan;
    words.resize(static_cast<size_t>(m * width));
    nan.resize(static_cast<size_t>(m));
    uint64_t* const rows = words.data();  // of this thread, whichever runs what follows
    uint8_t* const is_nan = nan.data();
    in_parallel(m, 1, m * width < WORTH_A_THREAD / 8 ? 1 : threads, [&](int64_t begin, int64_t end) {
        for (int64_t r = begin; r < end; ++r) is_nan[r] = kernels->pack_row(x + r * stride, entries, rows + r * width);
    });
    in_parallel((n + PANEL - 1) / PANEL, 4, m * n * width < WORTH_A_THREAD ? 1 : threads, [&](int64_t begin, int64_t end) {
        kernels->binary_linear(rows, is_nan, panels, m, n, entries, whole, y, begin, end);
    });
    return 0;
}

int32_t px_quantize(int32_t isa, int32_t is_bfloat16, int32_t curve, int32_t is_unit, float mu, int64_t entries,
                    int64_t columns, const void* x, void* y, float* statistics, uint8_t* inside, int32_t threads) {
    const Kernels* kernels = kernels_of(isa);
    if (kernels == nullptr) return 1;
    const int64_t rows = rows_of(entries, columns);
    float* const factors = statistics == nullptr ? nullptr : statistics + rows;
    const Quantization q = {is_bfloat16, curve, is_unit, mu, entries, columns, x, y, statistics, factors, inside};
    in_parallel(rows, 1, entries < ENTRIES_WORTH_A_THREAD ? 1 : threads,
                [&](int64_t first, int64_t last) { kernels->quantize(q, first, last); });
    return 0;
}

int32_t px_quantize_backward(int32_t isa, int32_t is_bfloat16, int32_t derivative, float mu, int64_t entries,
                             int64_t columns, const void* x, const void* g, const float* statistics,
                             const uint8_t* inside, void* y, int32_t threads) {
    const Kernels* kernels = kernels_of(isa);
    if (kernels == nullptr) return 1;
    const int64_t rows = rows_of(entries, columns);
    const float* const factors = statistics == nullptr ? nullptr : statistics + rows;
    const Slope s = {is_bfloat16, derivative, mu, entries, columns, x, g, statistics, factors, inside, y};
    in_parallel(rows, 1, entries < ENTRIES_WORTH_A_THREAD ? 1 : threads,
                [&](int64_t first, int64_t last) { kernels->slope(s, first, last); });
    return 0;
}
