// AVX-512 without instructions that count bits. As with AVX2, vpshufb counts them with a table of 16 bytes. In long rows,
// bits of four words are first added up as binary numbers, whose digits are vectors (Harley and Seal; Muła 2016, arXiv
// 1611.07612).
#include "isa/avx512_words.hpp"

namespace proxconnect {
namespace {

struct Shuffling : Avx512Words {
    using Count = Vector;  // a count in each byte
    static constexpr int64_t limit = 31;  // a byte holds 31 counts of up to 8

    static Count add_bits_of_bytes(Count count, Vector bits) {
        const __m512i low = _mm512_set1_epi8(15);
        const __m512i table = _mm512_broadcast_i32x4(_mm_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4));
        const __m512i first = _mm512_shuffle_epi8(table, _mm512_and_si512(bits, low));
        const __m512i second = _mm512_shuffle_epi8(table, _mm512_and_si512(_mm512_srli_epi16(bits, 4), low));
        return _mm512_add_epi8(_mm512_add_epi8(count, first), second);
    }

    static Count add_differing(Count count, Vector a, Vector b) {
        return add_bits_of_bytes(count, _mm512_xor_si512(a, b));
    }

    static Vector totals(Count count) { return _mm512_sad_epu8(count, none()); }
    static constexpr auto add_ones = add_differing;
};

struct Carrying : Avx512Words {
    // Bits that count one or two, and counts in each byte, of ones and of fours.
    struct Count {
        Vector one, two, ones, fours;
    };
    static constexpr int rows = 1, panels = 4, at_once = 4;
    static constexpr int64_t limit = Shuffling::limit * at_once;

    static Count zero() { return {none(), none(), none(), none()}; }

    // Replace three bits by the lower bit of their sum, in a, and return the upper one.
    static Vector carry(Vector& a, Vector b, Vector c) {
        const Vector upper = _mm512_ternarylogic_epi64(a, b, c, 0xe8);
        a = _mm512_ternarylogic_epi64(a, b, c, 0x96);
        return upper;
    }

    static void add_several(Count& count, const Vector (&differing)[at_once]) {
        const Vector two = carry(count.one, differing[0], differing[1]);
        const Vector four = carry(count.two, two, carry(count.one, differing[2], differing[3]));
        count.fours = Shuffling::add_bits_of_bytes(count.fours, four);
    }

    static Count add_differing(Count count, Vector a, Vector b) {
        count.ones = Shuffling::add_differing(count.ones, a, b);
        return count;
    }

    static Vector totals(const Count& count) {
        const Vector twos = Shuffling::add_bits_of_bytes(none(), count.two);
        const Vector most = _mm512_add_epi8(count.ones, _mm512_add_epi8(twos, twos));
        const Vector ones = Shuffling::add_bits_of_bytes(most, count.one);
        return add(Shuffling::totals(ones), _mm512_slli_epi64(Shuffling::totals(count.fours), 2));
    }
};

bool is_long(int64_t entries) { return words_of(entries) >= 12; }

void linear(const SignRows& rows, const uint64_t* panels, const Outputs& outputs, int64_t first, int64_t last) {
    const auto multiply = is_long(rows.entries) ? binary_linear<Carrying> : binary_linear<Shuffling>;
    multiply(rows, panels, outputs, first, last);
}

void conv(const PackedImage& image, const uint64_t* panels, const Geometry& g, const Outputs& outputs,
          const Scratch& scratch, int64_t begin, int64_t end) {
    const int64_t entries = g.kernel[0] * g.kernel[1] * (g.channels / g.groups);
    const auto multiply = is_long(entries) ? binary_conv<Carrying> : binary_conv<Shuffling>;
    multiply(image, panels, g, outputs, scratch, begin, end);
}

constexpr Kernels with_both(Kernels kernels) {
    kernels.binary_linear = linear, kernels.binary_conv = conv;
    return kernels;
}

}  // namespace

const Kernels avx512_vnni_kernels = with_both(kernels_that_count<Shuffling>());

}  // namespace proxconnect
