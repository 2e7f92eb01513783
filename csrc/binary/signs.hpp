// Signs of floats as bits, and bits that begin inside a word.
#pragma once

#include <algorithm>

#include "binary/outputs.hpp"

namespace proxconnect {
namespace {

// Pack the signs of one row. V::signs packs 64 floats and detects NaN.
template <class V>
bool pack_row(const float* x, int64_t columns, uint64_t* words) {
    bool has_nan = false;
    int64_t j = 0;
    for (; (j + 1) * 64 <= columns; ++j) words[j] = V::signs(x + j * 64, has_nan);
    if (columns % 64 != 0) {
        float rest[64];
        const int64_t left = columns - j * 64;
        for (int64_t i = 0; i < 64; ++i) rest[i] = i < left ? x[j * 64 + i] : -1.0f;
        words[j] = V::signs(rest, has_nan);
    }
    return has_nan;
}

// Pack the signs of x + shift. The shift begins again after `channels` entries.
template <class V>
bool pack_shifted_row(const float* x, const float* shift, int64_t channels, int64_t columns, uint64_t* words) {
    bool has_nan = false;
    float shifted[64];
    int64_t channel = 0;
    for (int64_t j = 0; j < columns; j += 64) {
        const int64_t count = least(64, columns - j);
        if (count < 64) std::fill_n(shifted, 64, -1.0f);
        for (int64_t i = 0; i < count; ++i) shifted[i] = x[j + i] + shift[channel + i];
        words[j / 64] = V::signs(shifted, has_nan);
        channel += 64 % channels;
        if (channel >= channels) channel -= channels;
    }
    return has_nan;
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
