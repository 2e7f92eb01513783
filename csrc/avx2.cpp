// AVX2: bits are counted by a table of 16 bytes, which vpshufb looks up (Muła 2016, arXiv 1611.07612).
#include <immintrin.h>

#include "binary_conv.hpp"
#include "quantizer.hpp"

namespace proxconnect {
namespace {

struct Avx2 {
    using Vector = __m256i;
    using Count = __m256i;  // a count in each byte
    static constexpr int lanes = 4, rows = 4, panels = 1;
    static constexpr int64_t limit = 31;  // a byte holds 31 counts of up to 8

    static Vector load(const uint64_t* from) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)); }
    static Vector broadcast(uint64_t word) { return _mm256_set1_epi64x(static_cast<long long>(word)); }
    static Count zero() { return _mm256_setzero_si256(); }

    static Count add_differing(Count count, Vector a, Vector b) {
        const __m256i low = _mm256_set1_epi8(15);
        const __m256i table = _mm256_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4, 0, 1, 1, 2, 1, 2, 2, 3, 1,
                                               2, 2, 3, 2, 3, 3, 4);
        const __m256i x = _mm256_xor_si256(a, b);
        const __m256i first = _mm256_shuffle_epi8(table, _mm256_and_si256(x, low));
        const __m256i second = _mm256_shuffle_epi8(table, _mm256_and_si256(_mm256_srli_epi16(x, 4), low));
        return _mm256_add_epi8(_mm256_add_epi8(count, first), second);
    }

    static Vector totals(Count count) { return _mm256_sad_epu8(count, _mm256_setzero_si256()); }
    static Vector add(Vector a, Vector b) { return _mm256_add_epi64(a, b); }
    static void store(uint64_t* to, Vector v) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), v); }

    static constexpr auto pack_block = proxconnect::pack_block;

    static uint64_t signs(const float* x, bool& has_nan) {
        uint64_t word = 0;
        __m256 nan = _mm256_setzero_ps();
        for (int i = 0; i < 8; ++i) {
            const __m256 v = _mm256_loadu_ps(x + 8 * i);
            const __m256 positive = _mm256_cmp_ps(v, _mm256_setzero_ps(), _CMP_GE_OQ);
            nan = _mm256_or_ps(nan, _mm256_cmp_ps(v, v, _CMP_UNORD_Q));
            word |= static_cast<uint64_t>(static_cast<uint32_t>(_mm256_movemask_ps(positive))) << (8 * i);
        }
        has_nan |= _mm256_movemask_ps(nan) != 0;
        return word;
    }
};

struct Avx2Floats : Lanes<8> {
    static Floats fma(Floats a, Floats b, Floats c) { return _mm256_fmadd_ps(a, b, c); }
};

}  // namespace

const Kernels avx2_kernels = {
    pack_row<Avx2>, binary_linear<Avx2>, pack_pixels<Avx2>, binary_conv<Avx2>, quantize<Avx2Floats>, slope<Avx2Floats>,
};

}  // namespace proxconnect
