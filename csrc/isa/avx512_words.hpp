// The table of both sets of AVX-512, which differ in how they count bits. The vectors need AVX-512 F, BW, VL and DQ.
#pragma once

#include "attention/float_band.hpp"
#include "float_conv/multiply_adds.hpp"
#include "int8/sign_panels.hpp"
#include "isa/avx512.hpp"
#include "isa/table.hpp"

namespace proxconnect {
namespace {

// How the first 1 to 4 bytes of each word become adjacent: the places of bytes of each quarter of a vector, then the
// places of words. (VBMI has one instruction for both, but Cascade Lake lacks it.) Functions of a std::array would have
// linkage.
struct alignas(64) FirstBytes {
    uint8_t bytes[4][64] = {};
    uint32_t words[4][16] = {};

    constexpr FirstBytes() {
        for (int count = 1; count <= 4; ++count) {
            for (int i = 0; i < 64; ++i) {
                const int at = i % 16;
                bytes[count - 1][i] = static_cast<uint8_t>(at < 4 * count ? at / count * 4 + at % count : 0);
            }
            for (int i = 0; i < 4 * count; ++i) words[count - 1][i] = static_cast<uint32_t>(i / count * 4 + i % count);
        }
    }
};
constexpr FirstBytes FIRST_BYTES;

struct Avx512Words : Avx512 {
    using Vector = __m512i;
    using Tables = NoTables;
    static constexpr int lanes = 8, rows = 4, panels = 4, at_once = 1, float_rows = 6, float_blocks = 4;
    static constexpr int attention_sums = 24, attention_columns = 4;

    static Vector load(const void* from) { return _mm512_loadu_si512(from); }
    static Vector broadcast(uint64_t word) { return _mm512_set1_epi64(static_cast<long long>(word)); }

    static Vector add(Vector a, Vector b) { return _mm512_add_epi64(a, b); }
    static void store(void* to, Vector v) { _mm512_storeu_si512(to, v); }

    static Vectors<outputs>::Ints narrowed(Vector low, Vector high) {
        return (Vectors<outputs>::Ints)halves_of(low, high, 0);
    }

    static Vectors<outputs>::Ints widened(const uint8_t* from) {
        return (Vectors<outputs>::Ints)_mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
    }

    static void spread(uint64_t bits, uint8_t* to) { store(to, _mm512_maskz_set1_epi8(bits, 1)); }
    static Vector none() { return _mm512_setzero_si512(); }
    static Vector zero() { return none(); }
    static Vector add_bits(Vector count, Vector a, Vector b) { return _mm512_add_epi8(count, _mm512_xor_si512(a, b)); }

    static void put_pixels(const Vectors<outputs>::Words& words, int64_t channels, int64_t count, uint8_t* to) {
        const __m512i first = _mm512_shuffle_epi8((__m512i)words, _mm512_load_si512(FIRST_BYTES.bytes[channels - 1]));
        const __m512i bytes = _mm512_permutexvar_epi32(_mm512_load_si512(FIRST_BYTES.words[channels - 1]), first);
        _mm512_mask_storeu_epi8(to, ~uint64_t{0} >> (64 - channels * count), bytes);
    }

    static void spread_panels(const uint64_t* words, int8_t* to) {
        proxconnect::spread_panels(load(words), load(words + 8), fours_of_bits(-1, 1), to, STEP);
    }

    // Channels lie too far apart for the processor to predict the next pixels. These may be beyond the last.
    static void prefetch(const float* from, uintptr_t ahead) {
        const uintptr_t there = reinterpret_cast<uintptr_t>(from) + ahead * sizeof(float);
        _mm_prefetch(reinterpret_cast<const char*>(there), _MM_HINT_T0);
    }

    static void pack_block(const float* from, int64_t channel_stride, int64_t channels, uint64_t* words,
                           uint64_t* nan) {
        __m512i low = _mm512_setzero_si512(), high = low, bit = _mm512_set1_epi64(1);
        __mmask16 unknown = 0;
        for (int64_t c = 0; c < channels; ++c, from += channel_stride) {
            const __m512 v = _mm512_loadu_ps(from);
            prefetch(from, 48);
            const __mmask16 positive = _mm512_cmp_ps_mask(v, _mm512_setzero_ps(), _CMP_GE_OQ);
            unknown = static_cast<__mmask16>(unknown | _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q));
            low = _mm512_mask_or_epi64(low, static_cast<__mmask8>(positive), low, bit);
            high = _mm512_mask_or_epi64(high, static_cast<__mmask8>(positive >> 8), high, bit);
            bit = _mm512_add_epi64(bit, bit);
        }
        store(words, low);
        store(words + 8, high);
        for (int i = 0; i < 16; ++i) nan[i] = unknown >> i & 1;
    }

    static uint64_t signs(const float* x, bool& has_nan) {
        uint64_t word = 0;
        __mmask16 nan = 0;
        for (int i = 0; i < 4; i += 2) {
            const __m512 low = _mm512_loadu_ps(x + 16 * i), high = _mm512_loadu_ps(x + 16 * i + 16);
            nan = static_cast<__mmask16>(nan | _mm512_cmp_ps_mask(low, high, _CMP_UNORD_Q));  // either of them
            const __mmask32 positive = _mm512_kunpackw(_mm512_cmp_ps_mask(high, _mm512_setzero_ps(), _CMP_GE_OQ),
                                                       _mm512_cmp_ps_mask(low, _mm512_setzero_ps(), _CMP_GE_OQ));
            word |= static_cast<uint64_t>(positive) << (16 * i);
        }
        has_nan |= nan != 0;
        return word;
    }
};

struct Avx512Floats : LanesOf<Avx512> {
    static Floats at_most(Floats v, float bound) { return _mm512_min_ps(all(bound), v); }  // v where it is NaN

    static Floats inverse(Floats v) {  // to an ulp
        const Floats near = _mm512_rcp14_ps(v);
        return fma(near, fma(-v, near, all(1.0f)), near);
    }
};

// V is Avx512Words with a way to count.
template <class V>
constexpr Kernels kernels_that_count() {
    return kernels_with<V, Avx512Floats>(avx512_weight_only, int8_with<V, add_by_avx512>, &float_attention<V>,
                                         multiply_floats<V>, spread_signs<V>);
}

}  // namespace
}  // namespace proxconnect
