// Binary weights as the panels of int8 products.
//
// V counts bits, as for binary products. V::spread_panels writes one word of each of sixteen rows as bytes of 1 or -1:
// four entries of all rows, then the next four.
#pragma once

#include "int8/steps.hpp"
#include "isa/unrolled.hpp"
#include "isa/vectors.hpp"

namespace proxconnect {
namespace {

typedef uint64_t PanelWords __attribute__((vector_size(8 * PANEL)));  // one of each row

// Write `count` bits of each row of a panel, from `bit` on. `last` is the panel's last word.
ALWAYS_INLINE inline void read_bits(const uint64_t* panel, int64_t bit, int64_t count, int64_t last, PanelWords& to) {
    const int64_t word = bit / 64, shift = bit % 64;
    to = loaded<PanelWords>(panel + word * PANEL);
    if (shift != 0) to = to >> shift | loaded<PanelWords>(panel + least(word + 1, last) * PANEL) << (64 - shift);
    to &= ~uint64_t{0} >> (64 - count);
}

// Set the bytes of a step after the first `count` entries to 0.
inline void clear_after(int64_t count, int8_t* to) {
    using Fours = Vectors<BLOCK>::Words;
    for (int64_t four = count / 4; four < STEP / 4; ++four) {
        const uint32_t kept = (1u << 8 * most(0, count - 4 * four)) - 1;
        const Fours fours = loaded<Fours>(to + four * sizeof fours) & kept;
        std::memcpy(to + four * sizeof fours, &fours, sizeof fours);
    }
}

// Spread two panels to one block.
template <class V>
int8_t* spread_block(const uint64_t* low, const uint64_t* high, const Pieces& pieces, int8_t* to) {
    const int64_t entries = pieces.count * pieces.length, last = words_of(entries) - 1;
    constexpr int VECTORS = 2 * PANEL / V::lanes;
    PanelWords words[2];
    typename V::Vector ones[VECTORS];
    for (auto& count : ones) count = V::none();
    for (int64_t begin = 0, i = 0; i < pieces.count; ++i, begin += pieces.length) {
        for (int64_t k = 0; k < pieces.length; k += STEP, to += STEP_BYTES) {
            const int64_t here = least(STEP, pieces.length - k);
            read_bits(low, begin + k, here, last, words[0]);
            read_bits(high, begin + k, here, last, words[1]);
            for (int v = 0; v < VECTORS; ++v) {
                const auto word = V::load(reinterpret_cast<const uint64_t*>(words) + v * V::lanes);
                ones[v] = V::add(ones[v], V::totals(V::add_differing(V::zero(), word, V::none())));
            }
            V::spread_panels(reinterpret_cast<const uint64_t*>(words), to);
            if (here < STEP) clear_after(here, to);
        }
    }
    int64_t counts[2 * PANEL];
    for (int v = 0; v < VECTORS; ++v) V::store(counts + v * V::lanes, ones[v]);
    for (int64_t n = 0; n < 2 * PANEL; ++n, to += sizeof(int32_t)) {  // 128 times the sum of each output
        const auto total = static_cast<int32_t>(128 * (2 * counts[n] - entries));
        std::memcpy(to, &total, sizeof total);
    }
    return to;
}

// Spread blocks [first, last) of a binary weight. Outputs beyond the last repeat others.
template <class V>
void spread_signs(const uint64_t* panels, const Geometry& g, int64_t first, int64_t last, int8_t* to) {
    const Pieces pieces(g);
    const int64_t end = panels_of(g.out_channels) - 1, size = words_of(pieces.count * pieces.length) * PANEL;
    for (int64_t block = first; block < last; ++block) {
        to = spread_block<V>(panels + 2 * block * size, panels + least(2 * block + 1, end) * size, pieces, to);
    }
}

}  // namespace
}  // namespace proxconnect
