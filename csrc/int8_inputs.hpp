// How floats become bytes, and means of floats: what the kernels of 8-bit layers do before they multiply.
#pragma once

#include "int8.hpp"
#include "vectors.hpp"

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

// Bytes of V::outputs pixels of up to four planes, a pixel's in one word, the first the lowest.
template <class V>
inline Words<V> rounded_words(const float* x, int64_t planes, int64_t apart, int64_t pixels, float inverse) {
    Words<V> words = {};
    for (int64_t k = 0; k < planes; ++k) {
        const Floats<V> whole = loaded_part<Floats<V>>(x + k * apart, pixels) * inverse + TO_WHOLE;
        words |= (((Words<V>)whole + 128u) & 255u) << static_cast<uint32_t>(8 * k);
    }
    return words;
}

// Of four channels at a time words are written, of what is left as many bytes, but where that is all: then a word of
// which the next pixel takes what is too much.
template <class V>
void round_planes(const float* x, int64_t channels, int64_t apart, int64_t count, float inverse, uint8_t* to) {
    for (int64_t c = 0; c < channels; c += 4) {
        const int64_t planes = least(4, channels - c);
        for (int64_t i = 0; i < count; i += V::outputs) {
            const int64_t pixels = least(V::outputs, count - i);
            const Words<V> words = rounded_words<V>(x + c * apart + i, planes, apart, pixels, inverse);
            uint32_t of_pixels[V::outputs];
            std::memcpy(of_pixels, &words, sizeof words);
            uint8_t* bytes = to + i * channels + c;
            for (int64_t k = 0; k < pixels; ++k, bytes += channels) {
                if (planes == 4 || channels < 4) std::memcpy(bytes, of_pixels + k, 4);
                else std::memcpy(bytes, of_pixels + k, static_cast<size_t>(planes));
            }
        }
    }
}

// Added in torch's order, a row of pixels after the other, then divided.
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
