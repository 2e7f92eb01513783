// Images of floats as images of bits, and which of their pixels are NaN.
#pragma once

#include "binary/signs.hpp"

namespace proxconnect {
namespace {

constexpr int64_t PIXELS = 16;

// Pack up to 64 channels of PIXELS pixels that are adjacent in memory, one word for each pixel. V::pack_block is this
// or a faster version.
inline void pack_block(const float* from, int64_t channel_stride, int64_t channels, uint64_t* words, uint64_t* nan) {
    for (int64_t i = 0; i < PIXELS; ++i) words[i] = nan[i] = 0;
    for (int64_t c = 0; c < channels; ++c, from += channel_stride) {
        for (int64_t i = 0; i < PIXELS; ++i) words[i] |= static_cast<uint64_t>(from[i] >= 0.0f) << c;
        for (int64_t i = 0; i < PIXELS; ++i) nan[i] |= from[i] != from[i];
    }
}

// Pack the signs of pixels [begin, end). `words` begins with those of the first, ⌈channels/64⌉ for each.
template <class V>
void pack_pixels(const float* x, const Geometry& g, int64_t begin, int64_t end, uint64_t* words, uint8_t* nan) {
    const int64_t width = words_of(g.channels);
    for (int64_t k = 0; k < width; ++k) {  // the k-th word of each pixel
        const int64_t channels = least(64, g.channels - 64 * k);
        const float* const from = x + 64 * k * g.channel_stride;
        const float* const shift = g.input_shift == nullptr ? nullptr : g.input_shift + 64 * k;
        const bool are_joined = shift == nullptr && g.pixel_stride == 1 && g.row_stride == g.size[1];
        int64_t pixel = begin;
        for (; are_joined && pixel + PIXELS <= end; pixel += PIXELS) {
            uint64_t packed[PIXELS], unknown[PIXELS];
            V::pack_block(from + pixel, g.channel_stride, channels, packed, unknown);
            for (int64_t i = 0; i < PIXELS; ++i) {
                words[(pixel - begin + i) * width + k] = packed[i];
                nan[pixel + i] |= unknown[i] != 0;
            }
        }
        for (; pixel < end; ++pixel) {
            bool has_nan = false;
            const float* const there = from + pixel / g.size[1] * g.row_stride + pixel % g.size[1] * g.pixel_stride;
            words[(pixel - begin) * width + k] = signs_of<V>(there, g.channel_stride, channels, shift, has_nan);
            nan[pixel] |= has_nan;
        }
    }
}

// Pack the pixels of a row whose floats are adjacent.
template <class V>
void pack_stream(const float* x, const Geometry& g, int64_t at, uint64_t* words, uint8_t* nan, uint64_t* row) {
    const int64_t floats = g.size[1] * g.channels;
    const float* const shift = g.input_shift;
    uint64_t* const to = at % 64 == 0 ? row + at / 64 : words;
    const bool has_nan = pack_shifted_row<V>(x, shift, g.channels, floats, to);
    if (to == words) {
        append_all(words, 0, floats, at, row);
    } else {
        row[words_of(at + floats)] = 0;
    }
    for (int64_t i = 0; has_nan && i < floats; ++i) {
        const float value = shift == nullptr ? x[i] : x[i] + shift[i % g.channels];
        nan[i / g.channels] |= value != value;
    }
}

// Append the pixels of a row, ⌈channels/64⌉ words each, `step` words apart, from bit `at` on.
inline void join_pixels(const uint64_t* pixels, int64_t step, const Geometry& g, int64_t at, uint64_t* row) {
    const int64_t width = words_of(g.channels);
    if (g.channels % 64 == 0 && step == width) {
        std::memcpy(row + at / 64, pixels, static_cast<size_t>(g.size[1] * width) * sizeof(uint64_t));
        row[at / 64 + g.size[1] * width] = 0;
        return;
    }
    for (int64_t i = 0; i < g.size[1]; ++i) {
        for (int64_t k = 0; k < width; ++k) append(pixels[i * step + k], at + i * g.channels + 64 * k, row);
    }
}

// Mark the NaN pixels of row y of an image of signs.
inline void mark_pixels(const Signed& from, const Geometry& g, int64_t y, uint8_t* nan) {
    const int64_t width = words_of(g.channels);
    for (int64_t i = 0; i < g.size[1]; ++i) nan[i] = from.nan[(y * g.row_stride + i * g.pixel_stride) / width];
}

// Write row y without its border, from the bits or the floats of its pixels.
template <class V>
void pack_columns(const Geometry& g, int64_t y, const uint64_t* pixels, uint64_t* words, const PackedImage& image) {
    const int64_t border = image.pad * g.channels;
    uint64_t* const row = image.rows + y * image.width;
    uint8_t* const nan = image.nan + y * g.size[1];
    if (image.from.words != nullptr) {
        join_pixels(image.from.words + y * g.row_stride, g.pixel_stride, g, border, row);
        if (image.from.nan != nullptr) mark_pixels(image.from, g, y, nan);
    } else if (pixels != nullptr) {
        join_pixels(pixels, words_of(g.channels), g, border, row);
    } else {
        pack_stream<V>(image.from.x + y * g.row_stride, g, border, words, nan, row);
    }
}

template <class V>
void pack_image(const Geometry& g, int64_t begin, int64_t end, uint64_t* words, const PackedImage& image) {
    std::memset(image.nan + begin * g.size[1], 0, static_cast<size_t>((end - begin) * g.size[1]));
    const int64_t columns = g.size[1], border = image.pad * g.channels, width = words_of(g.channels) * columns;
    const bool is_stream = g.channel_stride == 1 && (g.pixel_stride == g.channels || columns == 1);
    const bool is_by_pixel = image.from.words == nullptr && !is_stream;
    if (is_by_pixel) pack_pixels<V>(image.from.x, g, begin * columns, end * columns, words, image.nan);
    for (int64_t y = begin; y < end; ++y) {
        uint64_t* const row = image.rows + y * image.width;
        append_border(g.border > 0, border, 0, row);
        pack_columns<V>(g, y, is_by_pixel ? words + (y - begin) * width : nullptr, words, image);
        append_border(g.border > 0, border, border + columns * g.channels, row);
        if (image.upper == nullptr) continue;
        uint64_t* const upper = image.upper + y * image.width;
        append_border(true, border, 0, upper);
        append_all(row, border, columns * g.channels, border, upper);
        append_border(true, border, border + columns * g.channels, upper);
    }
}

}  // namespace
}  // namespace proxconnect
