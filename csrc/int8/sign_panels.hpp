// Binary weights as the panels of int8 products. V counts bits, as for binary products.
#pragma once

#include "binary/byte_signs.hpp"
#include "int8/steps.hpp"

namespace proxconnect {
namespace {

// Spread two panels, of sixteen outputs, to one block.
template <class V>
int8_t* spread_block(const SpreadWeight& weight, const int64_t (&of)[2], const Pieces& pieces, int8_t* to) {
    __m512i ones[2] = {};
    for (int64_t begin = 0, i = 0; i < pieces.count; ++i, begin += pieces.length) {
        for (int64_t k = 0; k < pieces.length; k += STEP, to += STEP_BYTES) {
            const int64_t here = least(STEP, pieces.length - k);
            const __m512i kept = _mm512_set1_epi64(static_cast<long long>(~uint64_t{0} >> (STEP - here)));
            __m512i words[2];
            for (int p = 0; p < 2; ++p) {
                words[p] = weight.words(of[p], begin + k);
                const __m512i word = _mm512_and_si512(words[p], kept);
                ones[p] = V::add(ones[p], V::totals(V::add_differing(V::zero(), word, V::none())));
            }
            SpreadWeight::spread(words[0], words[1], here, to);
        }
    }
    for (int p = 0; p < 2; ++p, to += TOTALS_BYTES / 2) {  // 128 times the sum of each output
        const __m512i entries = _mm512_set1_epi64(pieces.count * pieces.length);
        const __m512i sums = _mm512_sub_epi64(_mm512_add_epi64(ones[p], ones[p]), entries);
        const __m256i totals = _mm512_cvtepi64_epi32(_mm512_slli_epi64(sums, 7));
        _mm256_store_si256(reinterpret_cast<__m256i*>(to), totals);
    }
    return to;
}

// Spread blocks [first, last) of a binary weight. Outputs beyond the last repeat others.
template <class V>
void spread_signs(const uint64_t* panels, const Geometry& g, int64_t first, int64_t last, int8_t* to) {
    const Pieces pieces(g);
    const int64_t count = panels_of(g.out_channels);
    const SpreadWeight weight(panels, count, words_of(pieces.count * pieces.length));
    for (int64_t block = first; block < last; ++block) {
        to = spread_block<V>(weight, {2 * block, least(2 * block + 1, count - 1)}, pieces, to);
    }
}

}  // namespace
}  // namespace proxconnect
