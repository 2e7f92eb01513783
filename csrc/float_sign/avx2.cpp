// AVX2. vpermps looks up one of eight floats for each lane, so tables have three entries.
#include <immintrin.h>

#include "float_sign/byte_tables.hpp"
#include "float_sign/register_tables.hpp"
#include "float_sign/row_tables.hpp"

namespace proxconnect {
namespace {

struct Permuted {
    typedef float Floats __attribute__((vector_size(32), may_alias));
    typedef uint16_t Halves __attribute__((vector_size(32), may_alias));

    using Vector = __m256;
    using Bits = __m256i;
    static constexpr int64_t lanes = 8, groups = 11;  // ten of three entries and one of two
    static constexpr int rows = 2, vectors = 4, halves = 1;

    static Vector load(const float* from) { return _mm256_loadu_ps(from); }
    static void store(float* to, Vector v) { _mm256_storeu_ps(to, v); }

    static Vector scales(const float* from) { return load(from); }
    static Vector scales(const uint16_t* from) {
        return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
    }

    static void widen(const uint16_t* from, float (&to)[PANEL]) { store(to, scales(from)); }

    static __m256i first_lanes(int64_t count) {
        const __m256i lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
        return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(least(count, 8))), lanes);
    }

    static Vector load_part(const float* from, int64_t count) { return _mm256_maskload_ps(from, first_lanes(count)); }
    static void store_part(float* to, Vector v, int64_t count) { _mm256_maskstore_ps(to, first_lanes(count), v); }

    // With two intrinsics, GCC 12 looks up all entries first, which are more than there are registers, and adds them
    // later.
    template <bool>
    static Vector add_entries(Vector sum, Vector table, Bits bits) {
        Vector entries;
        asm("vpermps %2, %3, %1\n\tvaddps %1, %0, %0" : "+x"(sum), "=&x"(entries) : "x"(table), "x"(bits));
        return sum;
    }

    // Halves of 32 bits have five tables each, and one more. A product shifts like a shift, but on Zen 5 uses ports that
    // additions do not wait for.
    template <int G>
    static Bits numbers(Bits bits) {
        constexpr int SHIFT = 3 * (G % 5);
        return SHIFT == 0 ? bits : _mm256_mulhi_epu16(bits, _mm256_set1_epi16(static_cast<int16_t>(1 << (16 - SHIFT))));
    }

    template <int G>
    static Bits next(Bits bits) {
        return G % 5 == 4 ? _mm256_srli_epi32(bits, 15) : bits;
    }

    static Bits load_bits(const uint64_t* const* panels, int64_t word, int64_t upper) {
        const float* const rows = reinterpret_cast<const float*>(panels[0] + word * PANEL);
        const __m256 a = _mm256_loadu_ps(rows), b = _mm256_loadu_ps(rows + 8);  // four each, both halves of their word
        const __m256 picked = upper == 0 ? _mm256_shuffle_ps(a, b, 0x88) : _mm256_shuffle_ps(a, b, 0xdd);
        return _mm256_permute4x64_epi64(_mm256_castps_si256(picked), 0xd8);
    }

    static __m256 table(float a, float b, float c) {
        const __m256 minus = _mm256_set1_ps(-0.0f);
        const __m256 first = _mm256_blend_ps(minus, _mm256_setzero_ps(), 0xaa);
        const __m256 second = _mm256_blend_ps(minus, _mm256_setzero_ps(), 0xcc);
        const __m256 third = _mm256_blend_ps(minus, _mm256_setzero_ps(), 0xf0);
        const __m256 signed_a = _mm256_xor_ps(_mm256_set1_ps(a), first);
        const __m256 signed_b = _mm256_xor_ps(_mm256_set1_ps(b), second);
        return _mm256_add_ps(_mm256_add_ps(signed_a, signed_b), _mm256_xor_ps(_mm256_set1_ps(c), third));
    }

    static void make_tables(const float* x, float* to) {
        for (int64_t g = 0; g < groups - 1; ++g, x += 3, to += lanes) store(to, table(x[0], x[1], x[2]));
        store(to, table(x[0], x[1], 0.0f));
    }
};

constexpr int64_t FEW = 5, FEW_ROUNDED = 10;
constexpr int64_t FLOATS_COUNT_TO = 1 << 17;  // entries within ±127, of which floats hold every sum

void multiply(const FloatRows& given, const FloatOutputs& outputs) {
    const FloatRows rows = with_quanta(given);
    const int64_t left = rows.count % 16, few = rows.rounds ? FEW_ROUNDED : FEW;
    const int64_t many = rows.count - (left <= few && rows.entries <= FLOATS_COUNT_TO ? left : 0);
    FloatRows first = rows;
    first.count = many;
    multiply_by_row_tables<Permuted>(first, outputs);
    void (*const multiply_few)(const FloatRows&, const FloatOutputs&) =
        rows.rounds ? multiply_by_rounded_tables<ByteTables, Permuted, 4>
                    : multiply_by_register_tables<Permuted, Permuted::rows>;
    multiply_few(from_row(rows, many), from_row(outputs, many));
    take_steps(avx2_kernels, rows.count, outputs);
}

}  // namespace

const WeightOnlyKernels avx2_weight_only = {multiply, largest};

}  // namespace proxconnect
