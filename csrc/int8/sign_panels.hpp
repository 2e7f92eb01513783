// Binary weights as the panels of int8 products. V counts bits, as for binary products.
#pragma once

#include "binary/byte_signs.hpp"
#include "int8/steps.hpp"

namespace proxconnect {
namespace {

// Write 128 times the sum of each of the eight rows of a panel.
template <class V>
inline void put_totals(const uint64_t* panel, int64_t entries, void* to) {
    __m512i ones = _mm512_setzero_si512();
    for (int64_t j = 0; j < words_of(entries); ++j) {
        const int64_t beyond = most(0, (j + 1) * 64 - entries);
        const __m512i kept = _mm512_set1_epi64(static_cast<long long>(~uint64_t{0} >> beyond));
        const __m512i words = _mm512_and_si512(_mm512_loadu_si512(panel + j * PANEL), kept);
        ones = V::add(ones, V::totals(V::add_differing(V::zero(), words, V::none())));
    }
    const __m512i sums = _mm512_sub_epi64(_mm512_add_epi64(ones, ones), _mm512_set1_epi64(entries));
    _mm256_storeu_si256(static_cast<__m256i*>(to), _mm512_cvtepi64_epi32(_mm512_slli_epi64(sums, 7)));
}

// Spread one block of sixteen outputs of a binary weight. Outputs beyond the last repeat others.
template <class V>
inline void spread_signs(const uint64_t* panels, const Geometry& g, int64_t block, int8_t* to) {
    const Pieces pieces(g);
    const int64_t count = panels_of(g.out_channels), entries = pieces.count * pieces.length, width = words_of(entries);
    const SpreadWeight weight(panels, count, width);
    for (int64_t bit = 0; bit < entries; bit += pieces.length) {
        for (int64_t k = 0; k < pieces.length; k += STEP, to += STEP_BYTES) {
            weight.spread(2 * block, {0, bit + k, least(STEP, pieces.length - k)}, to);
        }
    }
    for (int64_t i = 0; i < 2; ++i) {
        put_totals<V>(panels + least(2 * block + i, count - 1) * width * PANEL, entries, to + i * PANEL * 4);
    }
}

}  // namespace
}  // namespace proxconnect
