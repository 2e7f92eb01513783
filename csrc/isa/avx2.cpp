// AVX2. vpshufb counts bits with a table of 16 bytes (Muła 2016, arXiv 1611.07612).
#include <immintrin.h>

#include "attention/float_band.hpp"
#include "binary/nibble_tables.hpp"
#include "float_conv/multiply_adds.hpp"
#include "isa/table.hpp"

namespace proxconnect {
namespace {

struct Avx2 : ByteCounting<8> {
    using Vector = __m256i;
    using Count = __m256i;  // a count in each byte
    using Tables = NibbleTables;
    static constexpr int lanes = 4, rows = 4, float_rows = 6, float_blocks = 1;
    static constexpr int attention_sums = 12, attention_columns = 2;

    static Vector load(const void* from) { return _mm256_loadu_si256(static_cast<const __m256i*>(from)); }
    static Vector broadcast(uint64_t word) { return _mm256_set1_epi64x(static_cast<long long>(word)); }
    static Count zero() { return _mm256_setzero_si256(); }

    static Count add_differing(Count count, Vector a, Vector b) {
        const __m256i low = _mm256_set1_epi8(15);
        const __m256i table = _mm256_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4,  // for each half
                                               0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4);
        const __m256i x = _mm256_xor_si256(a, b);
        const __m256i first = _mm256_shuffle_epi8(table, _mm256_and_si256(x, low));
        const __m256i second = _mm256_shuffle_epi8(table, _mm256_and_si256(_mm256_srli_epi16(x, 4), low));
        return _mm256_add_epi8(_mm256_add_epi8(count, first), second);
    }

    static Vector totals(Count count) { return _mm256_sad_epu8(count, _mm256_setzero_si256()); }
    static Vector add(Vector a, Vector b) { return _mm256_add_epi64(a, b); }
    static void store(void* to, Vector v) { _mm256_storeu_si256(static_cast<__m256i*>(to), v); }

    static Ints narrowed(Vector first, Vector second) {
        const __m256 low = _mm256_castsi256_ps(first), high = _mm256_castsi256_ps(second);
        const __m256i even = _mm256_castps_si256(_mm256_shuffle_ps(low, high, _MM_SHUFFLE(2, 0, 2, 0)));
        return (Ints)_mm256_permute4x64_epi64(even, _MM_SHUFFLE(3, 1, 2, 0));
    }

    static Ints widened(const uint8_t* from) {
        return (Ints)_mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(from)));
    }

    static void spread(uint64_t bits, uint8_t* to) {
        const __m256i of_byte = _mm256_set1_epi64x(static_cast<long long>(0x8040201008040201u));
        const __m256i one = _mm256_set1_epi8(1);
        const __m256i byte = _mm256_setr_epi8(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2, 3,
                                              3, 3, 3, 3, 3, 3, 3);
        for (int i = 0; i < 2; ++i) {
            const __m256i here = _mm256_shuffle_epi8(_mm256_set1_epi32(static_cast<int32_t>(bits >> (32 * i))), byte);
            store(to + 32 * i, _mm256_and_si256(_mm256_cmpeq_epi8(_mm256_and_si256(here, of_byte), of_byte), one));
        }
    }

    static Vector none() { return _mm256_setzero_si256(); }
    static Vector add_bits(Vector count, Vector a, Vector b) { return _mm256_add_epi8(count, _mm256_xor_si256(a, b)); }
    static constexpr auto add_ones = add_differing;

    static Floats fma(Floats a, Floats b, Floats c) { return _mm256_fmadd_ps(a, b, c); }

    static uint32_t below(Words a, Words b) {
        return static_cast<uint32_t>(_mm256_movemask_ps((__m256)(a < b)));
    }

    static uint64_t positive(__m256 v) {
        return static_cast<uint32_t>(_mm256_movemask_ps(_mm256_cmp_ps(v, _mm256_setzero_ps(), _CMP_GE_OQ)));
    }

    static uint64_t signs(const float* x, bool& has_nan) {
        uint64_t word = 0;
        __m256 nan = _mm256_setzero_ps();
        for (int i = 0; i < 8; i += 2) {
            const __m256 low = _mm256_loadu_ps(x + 8 * i), high = _mm256_loadu_ps(x + 8 * i + 8);
            nan = _mm256_or_ps(nan, _mm256_cmp_ps(low, high, _CMP_UNORD_Q));  // either of them
            word |= positive(low) << (8 * i) | positive(high) << (8 * i + 8);
        }
        has_nan |= _mm256_movemask_ps(nan) != 0;
        return word;
    }
};

}  // namespace

const Kernels avx2_kernels =
    kernels_with<Avx2, LanesOf<Avx2>>(avx2_weight_only, int8_with<Avx2, add_by_avx2>, &float_attention<Avx2>,
                                      multiply_floats<Avx2>);

}  // namespace proxconnect
