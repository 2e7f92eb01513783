// AVX2. Four entries of four outputs become 16 bits each, which vpmaddwd multiplies and adds in pairs. (vpmaddubsw
// takes bytes, but its sums of two saturate at 2^15.)
#include <immintrin.h>

#include "int8/byte_vectors.hpp"

namespace proxconnect {
namespace {

struct Pairs {
    struct Vector {
        __m256i low, high;  // two numbers for each of four outputs
    };
    static constexpr int64_t vector_outputs = 8;
    static constexpr int fours = 1, rows = 2;

    static Vector first_sums(const void*) { return {_mm256_setzero_si256(), _mm256_setzero_si256()}; }

    static Vector load(const void* from) {
        const auto* const fours = static_cast<const __m128i*>(from);
        return {_mm256_cvtepi8_epi16(_mm_loadu_si128(fours)), _mm256_cvtepi8_epi16(_mm_loadu_si128(fours + 1))};
    }

    static __m256i entries(const uint8_t* from) { return _mm256_cvtepu8_epi16(_mm_set1_epi32(loaded<int32_t>(from))); }

    template <int>
    static Vector add_products(Vector sums, __m256i x, Vector weight) {
        return {_mm256_add_epi32(sums.low, _mm256_madd_epi16(weight.low, x)),
                _mm256_add_epi32(sums.high, _mm256_madd_epi16(weight.high, x))};
    }

    static void store(void* to, Vector sums) {
        const __m256i ordered = _mm256_permute4x64_epi64(_mm256_hadd_epi32(sums.low, sums.high), 0xd8);
        _mm256_storeu_si256(static_cast<__m256i*>(to), ordered);
    }
};

}  // namespace

void add_pairs(const ByteRows& rows, const int8_t* panels, int64_t blocks, int32_t* sums) {
    add_by_block<Pairs>(rows, panels, blocks, sums);
}

void add_by_avx2(const ByteRows& rows, const int8_t* panels, int64_t blocks, int32_t* sums) {
#if defined(PROXCONNECT_AVX_VNNI)
    if (__builtin_cpu_supports("avxvnni")) return add_by_avx_vnni(rows, panels, blocks, sums);
#endif
    add_pairs(rows, panels, blocks, sums);
}

}  // namespace proxconnect
