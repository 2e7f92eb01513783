// AVX-512: vectors for the epilogues, and helpers that several files need.
#pragma once

#include <immintrin.h>

#include "isa/vectors.hpp"

namespace proxconnect {
namespace {

struct Avx512 {
    using Vector = __m512;
    static constexpr int outputs = 16;

    static Vector scales(const float* from) { return _mm512_loadu_ps(from); }
    static Vector scales(const uint16_t* from) {
        return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
    }

    static Floats<Avx512> fma(Floats<Avx512> a, Floats<Avx512> b, Floats<Avx512> c) { return _mm512_fmadd_ps(a, b, c); }

    static uint32_t below(Words<Avx512> a, Words<Avx512> b) {
        return _mm512_cmplt_epu32_mask((__m512i)a, (__m512i)b);
    }
};

// Return a mask of the first `count` of sixteen lanes.
inline __mmask16 first_lanes(int64_t count) {
    return count >= 16 ? 0xffff : count <= 0 ? 0 : static_cast<__mmask16>((1 << count) - 1);
}

// Return the lower halves of sixteen words, or the upper halves if `half` is 1.
inline __m512i halves_of(__m512i low, __m512i high, int64_t half) {
    const __m512i even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
    return _mm512_permutex2var_epi32(low, _mm512_add_epi32(even, _mm512_set1_epi32(static_cast<int>(half))), high);
}

// Return the bits of floats without their signs. Those of inf and NaN are the largest.
inline __m512i magnitudes_of(__m512i bits) { return _mm512_and_si512(bits, _mm512_set1_epi32(0x7fffffff)); }

// Return sixteen groups of four bytes, one for each value of four bits: byte i is `one` if bit i is set, else `zero`.
inline __m512i fours_of_bits(int8_t zero, int8_t one) {
    return _mm512_mask_blend_epi8(0xfedcba9876543210, _mm512_set1_epi8(zero), _mm512_set1_epi8(one));
}

// Spread one word of each of sixteen rows of a weight (two panels) to bytes: four entries of all sixteen rows, then
// after `stride` bytes the next four.
inline void spread_panels(__m512i low, __m512i high, __m512i fours, void* to, int64_t stride) {
    auto* place = static_cast<uint8_t*>(to);
    for (int64_t half = 0; half < 2; ++half) {
        __m512i bits = halves_of(low, high, half);
#pragma GCC unroll 8
        for (int i = 0; i < 8; ++i, bits = _mm512_ror_epi32(bits, 4), place += stride) {
            _mm512_store_si512(place, _mm512_permutexvar_epi32(bits, fours));
        }
    }
}

}  // namespace
}  // namespace proxconnect
