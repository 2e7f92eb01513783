// Sums of ±1 products become outputs, V::outputs channels at a time: K entries of which c differ sum to K - 2c.
//
// V has: `below`, one bit for each lane, set if a < b.
#pragma once

#include <cmath>

#include "epilogue/steps.hpp"
#include "runtime/sizes.hpp"

namespace proxconnect {
namespace {

// Return the integers that an accumulator stores for the sums, or for a cyclic one the integers it wraps. (The
// parameter is not called OVERFLOW, which is a macro in Apple's <math.h>.)
template <class V, int ON_OVERFLOW>
inline Ints<V> held_integers(Ints<V> sums, const Output& output) {
    if (ON_OVERFLOW == NEVER) return sums;
    const int32_t bound = int32_t{1} << (output.bits - 1);
    if (ON_OVERFLOW == SATURATE) {
        const Ints<V> low = Ints<V>{} - bound, high = Ints<V>{} + (bound - 1);
        sums = sums < low ? low : sums;
        return sums > high ? high : sums;
    }
    const uint32_t half = static_cast<uint32_t>(bound);
    return (Ints<V>)((((Words<V>)sums + half) & (2 * half - 1)) - half);  // the floored modulus, of a power of 2
}

// Return the values of an accumulator after the sums.
template <class V, int ON_OVERFLOW>
inline Floats<V> held(Ints<V> sums, const Output& output) {
    const Floats<V> values = __builtin_convertvector((held_integers<V, ON_OVERFLOW>(sums, output)), Floats<V>);
    if (ON_OVERFLOW != CYCLIC) return values;
    const float bound = static_cast<float>(int32_t{1} << (output.bits - 1));
    const Floats<V> size = values < 0.0f ? -values : values;
    const Floats<V> falling = output.slope * (bound - size);
    return size <= falling ? values : (values < 0.0f ? -falling : falling);
}

// The number of entries of a sum, and the shift of its differing bits: 1, or 0 if they were counted twice.
struct Entries {
    int32_t all, shift;

    template <class Counts>
    Counts sums(Counts differing) const {
        return all - (differing << shift);
    }
};

// Channels [begin, end) of the outputs. Those beyond the last channel are the first of the next row.
struct Channels {
    int64_t begin, end;

    int64_t count() const { return end - begin; }
};

inline int64_t place_of(const Outputs& outputs, int64_t row, int64_t channel) {
    return (outputs.first + row) * outputs.channels + channel;
}

// Return V::outputs channels from `channel` on.
template <class V, int ON_OVERFLOW>
inline Floats<V> scaled(Ints<V> sums, const Output& output, int64_t channel) {
    return held<V, ON_OVERFLOW>(sums, output) * loaded<Floats<V>>(output.scale + channel) +
           loaded<Floats<V>>(output.bias + channel);
}

// Write the floats of ROWS rows. They stay in registers if the compiler knows `count`.
template <class V, int ON_OVERFLOW, int ROWS, int SIZE, class Sums>
ALWAYS_INLINE inline void put_floats(const Sums& sums, const Outputs& outputs, const int64_t* rows, int64_t channel,
                                     int64_t count) {
    Block<V, ROWS, SIZE> block;
    block.channel = channel;
    block.fill([&](auto r, auto part) ALWAYS_INLINE {
        constexpr int c = part * V::outputs;
        return scaled<V, ON_OVERFLOW>(sums(r, c), outputs.output, channel + c);
    });
    int64_t at[ROWS];
    unrolled<ROWS>([&](auto r) ALWAYS_INLINE { at[r] = place_of(outputs, rows[r], channel); });
    finish(block, outputs, at, count);
}

// Write the bits of one row, and of the next if they end beyond the last channel, into words that were 0.
inline void put_bits_across(uint64_t bits, const Outputs& outputs, int64_t row, Channels of) {
    for (;; ++row) {
        const int64_t count = least(of.count(), outputs.channels - of.begin), shift = of.begin % 64;
        const uint64_t mine = bits & (~uint64_t{0} >> (64 - count));
        uint64_t* const words = outputs.words + (outputs.first + row) * words_of(outputs.channels) + of.begin / 64;
        words[0] |= mine << shift;
        if (shift + count > 64) words[1] |= mine >> (64 - shift);
        if (of.count() == count) return;
        bits >>= count;
        of = {0, of.count() - count};
    }
}

template <int ROWS>
ALWAYS_INLINE inline void put_bits(const uint64_t (&bits)[ROWS], const Outputs& outputs, const int64_t* rows,
                                   Channels of) {
    const int64_t width = words_of(outputs.channels), shift = of.begin % 64;
    if (of.end > outputs.channels || shift + of.count() > 64) {
        for (int r = 0; r < ROWS; ++r) put_bits_across(bits[r], outputs, rows[r], of);
        return;
    }
    const uint64_t mask = ~uint64_t{0} >> (64 - of.count());
    uint64_t* const words = outputs.words + outputs.first * width + of.begin / 64;
    for (int r = 0; r < ROWS; ++r) words[rows[r] * width] |= (bits[r] & mask) << shift;
}

template <class V, int ON_OVERFLOW, int ROWS, int SIZE, class Sums>
ALWAYS_INLINE inline void put_signs(const Sums& sums, const Outputs& outputs, const int64_t* rows, Channels of) {
    static_assert(SIZE <= 64);
    uint64_t bits[ROWS] = {};
    int64_t at = of.begin;
    for (int64_t k = 0; k < outputs.signs->intervals; ++k, at += outputs.channels + BEYOND) {
        unrolled<SIZE / V::outputs>([&](auto part) ALWAYS_INLINE {
            constexpr int c = part * V::outputs;
            const Ints<V> low = loaded<Ints<V>>(outputs.signs->low + at + c);
            const Words<V> width = loaded<Words<V>>(outputs.signs->width + at + c);
            unrolled<ROWS>([&](auto r) ALWAYS_INLINE {
                const Ints<V> held = held_integers<V, ON_OVERFLOW>(sums(r, c), outputs.output);
                const Words<V> above = (Words<V>)held - (Words<V>)low;
                bits[r] ^= static_cast<uint64_t>(V::below(above, width)) << c;
            });
        });
    }
    put_bits(bits, outputs, rows, of);
}

// Call work(overflow) with a constant.
template <class Work>
ALWAYS_INLINE inline void with_overflow(const Output& output, const Work& work) {
    switch (output.overflow) {
        case NEVER: return work(std::integral_constant<int, NEVER>());
        case WRAP: return work(std::integral_constant<int, WRAP>());
        case SATURATE: return work(std::integral_constant<int, SATURATE>());
        default: return work(std::integral_constant<int, CYCLIC>());
    }
}

// Write outputs for sums of ROWS rows, with at most SIZE channels each. SIZE is a multiple of V::outputs. sums(r, c)
// returns the int32 of rows[r], V::outputs channels from of.begin + c on. It is called for c below SIZE.
template <class V, int ROWS, int SIZE, class Sums>
inline void put(const Sums& sums, const Outputs& outputs, const int64_t* rows, Channels of) {
    with_overflow(outputs.output, [&](auto overflow) {
        if (outputs.signs != nullptr) return put_signs<V, overflow, ROWS, SIZE>(sums, outputs, rows, of);
        put_floats<V, overflow, ROWS, SIZE>(sums, outputs, rows, of.begin, of.count());
    });
}

// The same for sums in memory. Not inlined, because each caller would have all the code of the epilogue.
template <class V, int ROWS, int PARTS>
__attribute__((noinline)) void put_any(const Ints<V> (&sums)[ROWS][PARTS], const Outputs& outputs, const int64_t* rows,
                                       Channels of) {
    const auto part = [&](int r, int64_t c) { return sums[r][c / V::outputs]; };
    put<V, ROWS, PARTS * V::outputs>(part, outputs, rows, of);
}

// The same for sums in registers, which stay there if no accumulator overflows and no channel is missing.
template <class V, int ROWS, int PARTS>
ALWAYS_INLINE inline void put_sums(const Ints<V> (&sums)[ROWS][PARTS], const Outputs& outputs, const int64_t* rows,
                                   Channels of) {
    constexpr int SIZE = PARTS * V::outputs;
    if (outputs.output.overflow != NEVER || of.count() < SIZE) {
        Ints<V> copies[ROWS][PARTS];
        unrolled<ROWS * PARTS>([&](auto i) ALWAYS_INLINE {
            copies[i / PARTS][i % PARTS] = sums[i / PARTS][i % PARTS];
        });
        return put_any<V>(copies, outputs, rows, of);
    }
    const auto part = [&](int r, int64_t c) ALWAYS_INLINE { return sums[r][c / V::outputs]; };
    if (outputs.signs != nullptr) return put_signs<V, NEVER, ROWS, SIZE>(part, outputs, rows, of);
    put_floats<V, NEVER, ROWS, SIZE>(part, outputs, rows, of.begin, SIZE);
}

inline void put_nan(const Outputs& outputs, int64_t row, Channels of) {
    if (outputs.signs != nullptr) {
        if (outputs.nan != nullptr) outputs.nan[outputs.first + row] = 1;
        return;
    }
    for (int64_t c = of.begin; c < of.end; ++c) outputs.y[place_of(outputs, row, c)] = NAN;
}

}  // namespace
}  // namespace proxconnect
