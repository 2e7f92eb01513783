// Images as bits, and which taps of a kernel an output pixel finds within them.
#pragma once

#include "products.hpp"

namespace proxconnect {
namespace {

constexpr int64_t BLOCK = 16;

// Up to 64 bits from place `at` on; a word beyond the last is read.
inline uint64_t bits_at(const uint64_t* words, int64_t at, int64_t count) {
    const uint64_t place = static_cast<uint64_t>(at), *const from = words + place / 64;
    const uint64_t both = from[0] >> (place % 64) | (from[1] << 1) << (63 - place % 64);
    return both & (~uint64_t{0} >> (64 - count));
}

// Up to 64 bits, those above them 0, to place `at`, before which all is written; a word beyond the last is written.
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

// Up to 64 channels of BLOCK pixels that follow each other in memory, a word for each pixel; V::pack_block is this or
// better.
inline void pack_block(const float* from, int64_t channel_stride, int64_t channels, uint64_t* words, uint64_t* nan) {
    for (int64_t i = 0; i < BLOCK; ++i) words[i] = nan[i] = 0;
    for (int64_t c = 0; c < channels; ++c, from += channel_stride) {
        for (int64_t i = 0; i < BLOCK; ++i) words[i] |= static_cast<uint64_t>(from[i] >= 0.0f) << c;
        for (int64_t i = 0; i < BLOCK; ++i) nan[i] |= from[i] != from[i];
    }
}

// Up to 64 channels of a pixel, wherever they lie.
template <class V>
inline uint64_t pack_pixel(const float* from, int64_t channel_stride, int64_t channels, bool& has_nan) {
    if (channel_stride == 1 && channels == 64) return V::signs(from, has_nan);
    float gathered[64];
    for (int64_t c = 0; c < 64; ++c) gathered[c] = c < channels ? from[c * channel_stride] : -1.0f;
    return V::signs(gathered, has_nan);
}

// The signs of pixels [begin, end): words are those of the first of them on, ⌈channels/64⌉ each.
template <class V>
void pack_pixels(const float* x, const Geometry& g, int64_t begin, int64_t end, uint64_t* words, uint8_t* nan) {
    const int64_t width = (g.channels + 63) / 64;
    for (int64_t k = 0; k < width; ++k) {  // the k-th word of each pixel
        const int64_t channels = least(64, g.channels - 64 * k);
        const float* const from = x + 64 * k * g.channel_stride;
        const bool are_joined = g.pixel_stride == 1 && g.row_stride == g.size[1];
        int64_t pixel = begin;
        for (; are_joined && pixel + BLOCK <= end; pixel += BLOCK) {
            uint64_t packed[BLOCK], unknown[BLOCK];
            V::pack_block(from + pixel, g.channel_stride, channels, packed, unknown);
            for (int64_t i = 0; i < BLOCK; ++i) {
                words[(pixel - begin + i) * width + k] = packed[i];
                nan[pixel + i] |= unknown[i] != 0;
            }
        }
        for (; pixel < end; ++pixel) {
            bool has_nan = false;
            const float* const there = from + pixel / g.size[1] * g.row_stride + pixel % g.size[1] * g.pixel_stride;
            words[(pixel - begin) * width + k] = pack_pixel<V>(there, g.channel_stride, channels, has_nan);
            nan[pixel] |= has_nan;
        }
    }
}

// The pixels of a row whose floats follow each other, one after another.
template <class V>
void pack_stream(const float* x, const Geometry& g, int64_t at, uint64_t* words, uint8_t* nan, uint64_t* row) {
    const int64_t floats = g.size[1] * g.channels;
    bool has_nan;
    if (at % 64 == 0) {
        has_nan = pack_row<V>(x, floats, row + at / 64);
        row[(at + floats + 63) / 64] = 0;
    } else {
        has_nan = pack_row<V>(x, floats, words);
        append_all(words, 0, floats, at, row);
    }
    for (int64_t i = 0; has_nan && i < floats; ++i) nan[i / g.channels] |= x[i] != x[i];
}

template <class V>
void pack_image(const Geometry& g, int64_t begin, int64_t end, uint64_t* words, const PackedImage& image) {
    std::memset(image.nan + begin * g.size[1], 0, static_cast<size_t>((end - begin) * g.size[1]));
    const int64_t border = image.pad * g.channels, width = (g.channels + 63) / 64, columns = g.size[1];
    const bool is_stream = g.channel_stride == 1 && (g.pixel_stride == g.channels || columns == 1);
    if (!is_stream) pack_pixels<V>(image.x, g, begin * columns, end * columns, words, image.nan);
    for (int64_t y = begin; y < end; ++y) {
        uint64_t* const row = image.rows + y * image.width;
        append_border(g.border > 0, border, 0, row);
        if (is_stream) {
            pack_stream<V>(image.x + y * g.row_stride, g, border, words, image.nan + y * columns, row);
        } else {
            const uint64_t* const pixels = words + (y - begin) * columns * width;
            for (int64_t i = 0; i < columns; ++i) {
                for (int64_t k = 0; k < width; ++k) {
                    append(pixels[i * width + k], border + i * g.channels + 64 * k, row);
                }
            }
        }
        append_border(g.border > 0, border, border + columns * g.channels, row);
        if (image.upper == nullptr) continue;
        uint64_t* const upper = image.upper + y * image.width;
        append_border(true, border, 0, upper);
        append_all(row, border, columns * g.channels, border, upper);
        append_border(true, border, border + columns * g.channels, upper);
    }
}

// The taps of a kernel that an output pixel finds within the image: of its rows and columns [first, last).
struct Inside {
    int64_t first[2], last[2];

    bool operator==(const Inside& other) const {
        return first[0] == other.first[0] && first[1] == other.first[1] && last[0] == other.last[0] &&
               last[1] == other.last[1];
    }
    int64_t count() const { return (last[0] - first[0]) * (last[1] - first[1]); }
};

inline int64_t start_of(const Geometry& g, int axis, int64_t at) { return at * g.stride[axis] - g.padding[axis]; }

inline void find_inside(const Geometry& g, int axis, int64_t at, Inside& found) {
    const int64_t start = start_of(g, axis, at), step = g.dilation[axis], kernel = g.kernel[axis];
    const int64_t first = start >= 0 ? 0 : least((step - 1 - start) / step, kernel);
    const int64_t past = start + (kernel - 1) * step < g.size[axis] ? kernel : (g.size[axis] - start + step - 1) / step;
    found.first[axis] = first, found.last[axis] = most(first, past);
}

// Whether channels of a group that an output pixel meets hold NaN.
inline bool meets_nan(const float* x, const uint8_t* nan, const Geometry& g, const Inside& inside, int64_t group,
                      int64_t row, int64_t column) {
    const int64_t inner = g.channels / g.groups;
    for (int64_t i = inside.first[0]; i < inside.last[0]; ++i) {
        for (int64_t j = inside.first[1]; j < inside.last[1]; ++j) {
            const int64_t y = start_of(g, 0, row) + i * g.dilation[0], at = start_of(g, 1, column) + j * g.dilation[1];
            if (nan[y * g.size[1] + at] == 0) continue;
            const float* const pixel = x + y * g.row_stride + at * g.pixel_stride + group * inner * g.channel_stride;
            for (int64_t c = 0; c < inner; ++c) {
                if (std::isnan(pixel[c * g.channel_stride])) return true;
            }
        }
    }
    return false;
}

}  // namespace
}  // namespace proxconnect
