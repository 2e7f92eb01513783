// Work before an int8 product: rounding floats to bytes, and means of floats.
#pragma once

#include "int8/kernels.hpp"
#include "isa/vectors.hpp"

namespace proxconnect {
namespace {

inline void round_bytes(const float* x, int64_t count, float inverse, uint8_t* to) {
    for (int64_t i = 0; i < count; ++i) {
        const float whole = x[i] * inverse + TO_WHOLE;
        uint32_t bits;
        std::memcpy(&bits, &whole, sizeof bits);
        to[i] = static_cast<uint8_t>(bits + 128);
    }
}

// Round the floats of V::outputs pixels to words. Only their lowest bytes count.
template <class V>
inline Words<V> rounded_words(Floats<V> v, float inverse) {
    return (Words<V>)(v * inverse + TO_WHOLE) + 128u;
}

// Round up to four planes of `pixels` pixels. A word has the bytes of a pixel, the first plane in the lowest.
template <class V, class Load>
inline Words<V> of_planes(const float* x, int64_t planes, int64_t apart, float inverse, const Load& load) {
    Words<V> words = {};
    for (int64_t k = 0; k < planes; ++k) {
        words |= (rounded_words<V>(load(x + k * apart), inverse) & 255u) << static_cast<uint32_t>(8 * k);
    }
    return words;
}

// Write the first bytes of `count` words, `apart` bytes from word to word.
template <int N>
inline void put_words(const typename Vectors<N>::Words& words, int64_t count, int64_t bytes, int64_t apart,
                      uint8_t* to) {
    uint32_t each[N];
    std::memcpy(each, &words, sizeof words);
    for (int64_t k = 0; k < count; ++k, to += apart) std::memcpy(to, each + k, static_cast<size_t>(bytes));
}

// Write all bytes of words of up to four channels, one after the other. V::put_pixels is this or a faster version.
template <int N>
inline void put_pixels(const typename Vectors<N>::Words& words, int64_t channels, int64_t count, uint8_t* to) {
    if (channels == 3) return put_words<N>(words, count, 3, 3, to);  // a constant, so that no memcpy is called
    put_words<N>(words, count, channels, channels, to);
}

template <class V>
void round_planes(const float* x, int64_t channels, int64_t apart, int64_t count, float inverse, uint8_t* to) {
    for (int64_t c = 0; c < channels; c += 4, x += 4 * apart) {
        const int64_t planes = least(4, channels - c);
        for (int64_t i = 0; i < count; i += V::outputs) {
            const int64_t pixels = least(V::outputs, count - i);
            const Words<V> words =
                pixels == V::outputs
                    ? of_planes<V>(x + i, planes, apart, inverse, loaded<Floats<V>>)
                    : of_planes<V>(x + i, planes, apart, inverse,
                                   [&](const float* from) { return loaded_part<Floats<V>>(from, pixels); });
            uint8_t* const bytes = to + i * channels + c;
            if (channels <= 4) V::put_pixels(words, channels, pixels, bytes);
            else if (planes == 4) put_words<V::outputs>(words, pixels, 4, channels, bytes);
            else put_words<V::outputs>(words, pixels, planes, channels, bytes);
        }
    }
}

// Add in torch's order, one row of pixels after the other, then divide.
template <class V>
void mean(const float* x, const MeanWindow& w, float* to) {
    const float pixels = static_cast<float>(w.rows * w.columns);
    for (int64_t c = 0; c < w.channels; c += V::outputs) {
        const int64_t count = w.channels - c;
        Floats<V> sum = {};
        for (int64_t i = 0; i < w.rows; ++i) {
            for (int64_t j = 0; j < w.columns; ++j) {
                const float* const from = x + i * w.row_stride + j * w.pixel_stride + c;
                sum += count < V::outputs ? loaded_part<Floats<V>>(from, count) : loaded<Floats<V>>(from);
            }
        }
        store_part(sum / pixels, count, to + c);
    }
}

}  // namespace
}  // namespace proxconnect
