// Signs of floats as bits, and bits that begin inside a word.
#pragma once

#include <algorithm>

#include "binary/outputs.hpp"

namespace proxconnect {
namespace {

// Return the signs of up to 64 floats, `stride` apart, with 0 after the last. `shift`, if not null, is added to them.
// V::signs packs 64 floats and detects NaN.
template <class V>
ALWAYS_INLINE inline uint64_t signs_of(const float* x, int64_t stride, int64_t count, const float* shift,
                                       bool& has_nan) {
    if (stride == 1 && count == 64 && shift == nullptr) return V::signs(x, has_nan);
    float gathered[64];
    if (count < 64) std::fill_n(gathered, 64, -1.0f);
    for (int64_t i = 0; i < count; ++i) gathered[i] = x[i * stride] + (shift == nullptr ? 0.0f : shift[i]);
    return V::signs(gathered, has_nan);
}

// Pack the signs of one row. The shift begins again after `channels` entries.
template <class V>
ALWAYS_INLINE inline bool pack_shifted_row(const float* x, const float* shift, int64_t channels, int64_t columns,
                                           uint64_t* words) {
    bool has_nan = false;
    for (int64_t j = 0; j < columns; j += 64) {
        const float* const here = shift == nullptr ? nullptr : shift + j % channels;
        words[j / 64] = signs_of<V>(x + j, 1, least(64, columns - j), here, has_nan);
    }
    return has_nan;
}

template <class V>
bool pack_row(const float* x, int64_t columns, uint64_t* words) {
    return pack_shifted_row<V>(x, nullptr, 1, columns, words);
}

// Return up to 64 bits from place `at` on. One word beyond the last is read.
inline uint64_t bits_at(const uint64_t* words, int64_t at, int64_t count) {
    const uint64_t place = static_cast<uint64_t>(at), *const from = words + place / 64;
    const uint64_t both = from[0] >> (place % 64) | (from[1] << 1) << (63 - place % 64);
    return both & (~uint64_t{0} >> (64 - count));
}

// Append up to 64 bits, with zeros above them, at place `at`. All before it is written. One word beyond the last is
// written.
inline void append(uint64_t bits, int64_t at, uint64_t* words) {
    const uint64_t place = static_cast<uint64_t>(at);
    uint64_t* const to = words + place / 64;
    to[0] = (place % 64 == 0 ? 0 : to[0]) | bits << (place % 64);
    to[1] = (bits >> 1) >> (63 - place % 64);
}

inline void append_all(const uint64_t* from, int64_t first, int64_t count, int64_t at, uint64_t* words) {
    for (; count > 0; count -= 64, first += 64, at += 64) append(bits_at(from, first, least(count, 64)), at, words);
}

inline void append_border(bool is_positive, int64_t count, int64_t at, uint64_t* words) {
    for (; count > 0; count -= 64, at += 64) {
        append(is_positive ? ~uint64_t{0} >> (64 - least(count, 64)) : 0, at, words);
    }
}

}  // namespace
}  // namespace proxconnect
