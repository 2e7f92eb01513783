// AVX-512. vpermps looks up one of sixteen floats for each lane, vpermw one of 32 whole numbers.
#include "float_sign/sum_tables.hpp"
#include "float_sign/word_tables.hpp"
#include "isa/avx512.hpp"

namespace proxconnect {
namespace {

constexpr float ONE = 1;

struct Permuted : Avx512 {
    using Bits = __m512i;
    static constexpr int64_t lanes = 16, groups = 8;
    static constexpr int rows = 6, vectors = 4, halves = 2;

    static Vector load(const float* from) { return _mm512_loadu_ps(from); }
    static void store(float* to, Vector v) { _mm512_storeu_ps(to, v); }

    static Vector load_part(const float* from, int64_t count) {
        return _mm512_maskz_loadu_ps(first_lanes(count), from);
    }

    static void store_part(float* to, Vector v, int64_t count) { _mm512_mask_storeu_ps(to, first_lanes(count), v); }

    // With two intrinsics, GCC 12 looks up all entries first, which are more than there are registers, and adds them
    // later.
    template <bool MULTIPLIES>
    static Vector add_entries(Vector sum, Vector table, Bits bits) {
        Vector entries;
        if constexpr (MULTIPLIES) {
            asm("vpermps %2, %3, %1\n\tvfmadd231ps %4%{1to16%}, %1, %0"
                : "+v"(sum), "=&v"(entries)
                : "v"(table), "v"(bits), "m"(ONE));
        } else {
            asm("vpermps %2, %3, %1\n\tvaddps %1, %0, %0" : "+v"(sum), "=&v"(entries) : "v"(table), "v"(bits));
        }
        return sum;
    }

    template <int>
    static Bits numbers(Bits bits) {
        return bits;
    }

    // A rotation, because on Zen 5 a shift uses the ports of additions.
    template <int>
    static Bits next(Bits bits) {
        return _mm512_ror_epi32(bits, 4);
    }

    // With intrinsics, GCC 12 copies panels to the stack and back where registers are few.
    static Bits load_bits(const uint64_t* const* panels, int64_t word, int64_t upper) {
        alignas(64) static constexpr int32_t PLACES[2][16] = {
            {0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30},
            {1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31}
        };
        using Words = const uint64_t[PANEL];
        const auto& first = *reinterpret_cast<Words*>(panels[0] + word * PANEL);
        const auto& second = *reinterpret_cast<Words*>(panels[1] + word * PANEL);
        Bits bits = _mm512_load_si512(PLACES[upper]), low;
        asm("vmovdqu64 %2, %1\n\tvpermi2d %3, %1, %0"
            : "+v"(bits), "=&v"(low)
            : "m"(first), "m"(second));
        return bits;
    }

    // Find a + b, a - b, c + d and c - d of four groups at a time. Each entry of a table adds two of them, or subtracts.
    static void make_tables(const float* x, float* to) {
        using Places = int32_t __attribute__((vector_size(64)));
        const __m512 odd = {1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1};
        const __m512 low_sign = {-1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1};
        const __m512 high_sign = {-1, -1, -1, -1, 1, 1, 1, 1, -1, -1, -1, -1, 1, 1, 1, 1};
        const Places low = {0, 1, 1, 0, 0, 1, 1, 0, 0, 1, 1, 0, 0, 1, 1, 0};
        const Places high = {2, 2, 2, 2, 3, 3, 3, 3, 3, 3, 3, 3, 2, 2, 2, 2};
        for (int64_t k = 0; k < 2; ++k) {
            const __m512 v = _mm512_loadu_ps(x + 16 * k);
            const __m512 pairs = _mm512_fmadd_ps(v, odd, _mm512_permute_ps(v, 0xb1));
#pragma GCC unroll 4
            for (int g = 0; g < 4; ++g, to += lanes) {
                const __m512 lows = _mm512_permutexvar_ps((__m512i)(low + 4 * g), pairs);
                const __m512 highs = _mm512_permutexvar_ps((__m512i)(high + 4 * g), pairs);
                store(to, _mm512_fmadd_ps(lows, low_sign, _mm512_mul_ps(highs, high_sign)));
            }
        }
    }
};

void multiply(const FloatRows& given, const FloatOutputs& outputs) {
    constexpr int64_t FLOATS_COUNT_TO = 1 << 17;  // entries within ±127, of which floats hold every sum
    if (given.rounds && given.entries > FLOATS_COUNT_TO) return avx2_weight_only.multiply(given, outputs);
    const FloatRows rows = with_quanta(given);
    if (rows.rounds && __builtin_cpu_is("amd")) multiply_by_rounded_tables<WordTables, Permuted, 4>(rows, outputs);
    else multiply_by_register_tables<Permuted>(rows, outputs);
    take_steps(avx512_vnni_kernels, given.count, outputs);
}

void convolve(const PixelRows& image, const Geometry& g, int64_t begin, int64_t end, const FloatOutputs& outputs) {
    const FloatProduct<Permuted> product = {avx512_vnni_kernels, image, g.size[1], outputs};
    TableConv(product, g).run(begin, end);
}

// Measured on AMD's processors only.
bool suits_sums(const Geometry& g) {
    constexpr int64_t OUTPUTS = 192;  // for which making tables takes as long as lookups save
    return g.groups == 1 && g.channels % SumTables::ENTRIES == 0 && __builtin_cpu_is("amd") &&
           g.kernel[0] * g.kernel[1] * g.out_channels > OUTPUTS * g.stride[0] * g.stride[1];
}

void look_up(const BytePixels& x, const Geometry& g, int64_t begin, int64_t end, const SignOutputs& weight,
             const Outputs& then) {
    const int64_t words = g.kernel[0] * g.kernel[1] * g.channels / SumTables::ENTRIES;
    const SumProduct product = {x, weight.panels, words, weight.first, weight.last, then};
    TableConv(product, g).run(begin, end);
}

}  // namespace

const WeightOnlyKernels avx512_weight_only = {multiply, largest, convolve, 5, suits_sums, look_up};

}  // namespace proxconnect
