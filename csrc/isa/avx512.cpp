// AVX-512 with VPOPCNTDQ and BITALG, which count the bits of eight words or of 64 bytes in one instruction.
#include "isa/avx512_words.hpp"

namespace proxconnect {
namespace {

struct Counting : Avx512Words {
    using Count = __m512i;  // a count in each word
    static constexpr int64_t limit = NEVER_FULL;

    static Count add_differing(Count count, Vector a, Vector b) {
        return _mm512_add_epi64(count, _mm512_popcnt_epi64(_mm512_xor_si512(a, b)));
    }

    static Vector totals(Count count) { return count; }

    static Vector add_ones(Vector count, Vector a, Vector b) {
        return _mm512_add_epi8(count, _mm512_popcnt_epi8(_mm512_xor_si512(a, b)));
    }
};

}  // namespace

const Kernels avx512_kernels = kernels_that_count<Counting>();

}  // namespace proxconnect
