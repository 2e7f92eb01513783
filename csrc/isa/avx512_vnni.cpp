// AVX-512 without instructions that count bits. As with AVX2, vpshufb counts them with a table of 16 bytes.
#include "isa/avx512_words.hpp"

namespace proxconnect {
namespace {

struct Shuffling : Avx512Words {
    static constexpr int64_t limit = 31;  // a byte holds 31 counts of up to 8

    static Count add_differing(Count count, Vector a, Vector b) {  // a count in each byte
        const __m512i low = _mm512_set1_epi8(15);
        const __m512i table = _mm512_broadcast_i32x4(_mm_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4));
        const __m512i x = _mm512_xor_si512(a, b);
        const __m512i first = _mm512_shuffle_epi8(table, _mm512_and_si512(x, low));
        const __m512i second = _mm512_shuffle_epi8(table, _mm512_and_si512(_mm512_srli_epi16(x, 4), low));
        return _mm512_add_epi8(_mm512_add_epi8(count, first), second);
    }

    static Vector totals(Count count) { return _mm512_sad_epu8(count, _mm512_setzero_si512()); }
    static constexpr auto add_ones = add_differing;
};

}  // namespace

const Kernels avx512_vnni_kernels = kernels_that_count<Shuffling>();

}  // namespace proxconnect
