// AVX-512 with VPOPCNTDQ, which counts the bits of eight words in one instruction.
#include <immintrin.h>

#include "binary_conv.hpp"

namespace proxconnect {
namespace {

struct Avx512 {
    using Vector = __m512i;
    using Count = __m512i;  // a count in each word
    static constexpr int lanes = 8, rows = 4, panels = 4;
    static constexpr int64_t limit = INT64_MAX / 2;

    static Vector load(const uint64_t* from) { return _mm512_loadu_si512(from); }
    static Vector broadcast(uint64_t word) { return _mm512_set1_epi64(static_cast<long long>(word)); }
    static Count zero() { return _mm512_setzero_si512(); }

    static Count add_differing(Count count, Vector a, Vector b) {
        return _mm512_add_epi64(count, _mm512_popcnt_epi64(_mm512_xor_si512(a, b)));
    }

    static void empty(Count count, uint64_t* totals) {
        _mm512_storeu_si512(totals, _mm512_add_epi64(_mm512_loadu_si512(totals), count));
    }

    static uint64_t signs(const float* x, bool& has_nan) {
        uint64_t word = 0;
        __mmask16 nan = 0;
        for (int i = 0; i < 4; ++i) {
            const __m512 v = _mm512_loadu_ps(x + 16 * i);
            const __mmask16 positive = _mm512_cmp_ps_mask(v, _mm512_setzero_ps(), _CMP_GE_OQ);
            nan = static_cast<__mmask16>(nan | _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q));
            word |= static_cast<uint64_t>(positive) << (16 * i);
        }
        has_nan |= nan != 0;
        return word;
    }
};

}  // namespace

const Kernels avx512_kernels = {pack_row<Avx512>, binary_linear<Avx512>, pack_pixels<Avx512>, binary_conv<Avx512>};

}  // namespace proxconnect
