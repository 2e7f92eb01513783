// Convolutions with few channels in a group, above all depthwise ones. Each byte of a vector is an output channel, and
// meets up to eight channels of its group at once. If the stride is 1, a row of outputs is one array for any number of
// channels, because the inputs of each output lie at the same distances.
//
// V has: `spread`, from 64 bits to 64 bytes of 0 or 1; `add_bits` and `add_ones`, which add to each byte the number of
// differing bits of a and b, of the lowest bit or of all eight; `widened`, which makes int32 of V::outputs bytes.
#pragma once

#include "binary/signs.hpp"
#include "binary/tap_range.hpp"

namespace proxconnect {
namespace {

constexpr int64_t BYTES = 64;  // outputs that are counted together

inline int64_t planes_of(const Geometry& g) { return ceil_div(g.channels / g.groups, 8); }

// Spread the weight from bits (taps·channels of a group, out channels) to bytes (taps, planes, out channels + BYTES).
// The last BYTES repeat the first.
template <class V>
void spread_weight(const uint64_t* words, const Geometry& g, uint8_t* bytes) {
    const int64_t inner = g.channels / g.groups, planes = planes_of(g), n = g.out_channels, width = n + BYTES;
    for (int64_t tap = 0; tap < g.kernel[0] * g.kernel[1]; ++tap) {
        for (int64_t c = 0; c < inner; ++c) {
            uint8_t* const to = bytes + (tap * planes + c / 8) * width;
            for (int64_t o = 0; o < n; o += BYTES) {
                uint8_t bits[BYTES];
                V::spread(*words++, c % 8 == 0 ? to + o : bits);
                for (int64_t i = 0; c % 8 != 0 && i < BYTES; ++i) {
                    to[o + i] = static_cast<uint8_t>(to[o + i] | bits[i] << (c % 8));
                }
            }
        }
    }
    for (int64_t row = 0; row < g.kernel[0] * g.kernel[1] * planes; ++row) {
        for (int64_t i = 0; i < BYTES; ++i) bytes[row * width + n + i] = bytes[row * width + i % n];
    }
}

// Spread a row of bits to bytes, if each channel has one output.
template <class V>
inline void spread_row(const uint64_t* row, int64_t count, uint8_t* bytes) {
    for (; count >= BYTES; count -= BYTES, bytes += BYTES) V::spread(*row++, bytes);
    if (count > 0) {
        uint8_t last[BYTES];
        V::spread(*row, last);
        std::memcpy(bytes, last, static_cast<size_t>(count));
    }
}

// Repeat a byte for all output channels of a group. Up to 8 are written at once, and those beyond the group are
// overwritten by the next.
inline void repeat(uint64_t byte, int64_t outer, int64_t left, uint8_t* to) {
    if (outer > 8 || left < 8) {
        std::memset(to, static_cast<int>(byte), static_cast<size_t>(outer));
    } else {
        byte *= 0x0101010101010101u;
        std::memcpy(to, &byte, 8);
    }
}

template <class V>
void spread_image(const PackedImage& image, const Geometry& g, int64_t begin, int64_t end, uint8_t* bytes) {
    const int64_t inner = g.channels / g.groups, outer = g.out_channels / g.groups, n = g.out_channels;
    for (int64_t y = begin; y < end; ++y) {
        const uint64_t* const row = image.rows + y * image.width;
        uint8_t* to = bytes + y * g.size[1] * n;
        if (inner == 1 && outer == 1) {
            spread_row<V>(row, g.size[1] * n, to);
            continue;
        }
        for (int64_t plane = 0; plane < planes_of(g); ++plane, to += g.size[0] * g.size[1] * n) {
            const int64_t count = least(8, inner - 8 * plane), groups = g.size[1] * g.groups;
            for (int64_t group = 0; group < groups; ++group) {
                const uint64_t byte = bits_at(row, group * inner + 8 * plane, count);
                repeat(byte, outer, (groups - group) * outer, to + group * outer);
            }
        }
    }
}

// The bytes of the image that each byte of the weight meets, as distances from an output pixel's first tap.
struct Meetings {
    int64_t length, taps;
    int64_t *inputs, *weights;
};

inline Meetings meetings_of(const Geometry& g, const TapRange& inside, int64_t row, int64_t column, int64_t* scratch) {
    const int64_t planes = planes_of(g), pixels = g.size[0] * g.size[1], n = g.out_channels;
    Meetings found = {0, 0, scratch, scratch + g.kernel[0] * g.kernel[1] * planes};
    const int64_t first = start_of(g, 0, row) * g.size[1] + start_of(g, 1, column);
    for (int64_t i = 0, tap = 0; i < g.kernel[0]; ++i) {
        const bool is_row = i >= inside.first[0] && i < inside.last[0];
        for (int64_t j = 0; j < g.kernel[1]; ++j, ++tap) {
            const bool is_inside = is_row && j >= inside.first[1] && j < inside.last[1];
            if (!is_inside && g.border == 0) continue;
            const int64_t there = i * g.dilation[0] * g.size[1] + j * g.dilation[1];
            for (int64_t plane = 0; plane < planes; ++plane, ++found.length) {
                const int64_t pixel = is_inside ? plane * pixels + there : planes * pixels + plane - first;
                found.inputs[found.length] = pixel * n;
                found.weights[found.length] = (tap * planes + plane) * (n + BYTES);
            }
            ++found.taps;
        }
    }
    return found;
}

// Count the differing bits of BLOCKS·BYTES outputs, whose inputs begin at `at`. Each block begins with another channel.
// Not inlined, because counts would otherwise not stay in registers.
template <class V, bool IS_BIT, int BLOCKS>
__attribute__((noinline)) void count_bytes(const Meetings& of, const uint8_t* pixels, int64_t at,
                                           const uint8_t* weights, const int64_t (&channels)[BLOCKS],
                                           Ints<V> (&sums)[BLOCKS][BYTES / V::outputs]) {
    constexpr int64_t size = 8 * V::lanes, limit = IS_BIT ? 255 : 31;
    constexpr int PARTS = BYTES / size;
    for (int64_t start = 0; start == 0 || start < of.length; start += limit) {
        typename V::Vector counts[BLOCKS][PARTS];
        for (int i = 0; i < BLOCKS * PARTS; ++i) counts[i / PARTS][i % PARTS] = V::none();
        const int64_t end = least(of.length, start + limit);
        for (int64_t k = start; k < end; ++k) {
            const uint8_t *const input = pixels + (at + of.inputs[k]), *const weight = weights + of.weights[k];
#pragma GCC unroll 16
            for (int i = 0; i < BLOCKS * PARTS; ++i) {
                typename V::Vector& count = counts[i / PARTS][i % PARTS];
                const typename V::Vector a = V::load(input + i * size);
                const typename V::Vector b = V::load(weight + channels[i / PARTS] + i % PARTS * size);
                count = IS_BIT ? V::add_bits(count, a, b) : V::add_ones(count, a, b);
            }
        }
        for (int block = 0; block < BLOCKS; ++block) {
            uint8_t few[BYTES];
            for (int part = 0; part < PARTS; ++part) V::store(few + part * size, counts[block][part]);
            for (int i = 0; i < BYTES / V::outputs; ++i) {
                const Ints<V> more = V::widened(few + i * V::outputs);
                sums[block][i] = start == 0 ? more : sums[block][i] + more;
            }
        }
    }
}

// The output pixels of one image.
template <class V, bool IS_BIT>
struct Thin {
    const ThinImage& image;
    const Geometry& g;
    const Outputs& outputs;
    int64_t* const scratch;
    const bool is_plain = outputs.signs == nullptr && outputs.step_count == 0;

    // Write `length` outputs. The first is channel 0 of output pixel `row`, and their inputs begin at pixel `pixel`.
    void write(const Meetings& of, int64_t pixel, int64_t length, int64_t row) const {
        constexpr int BLOCKS = 2;
        int64_t at = 0;
        for (; at + BLOCKS * BYTES <= length; at += BLOCKS * BYTES) write<BLOCKS>(of, pixel, at, length, row);
        for (; at < length; at += BYTES) write<1>(of, pixel, at, length, row);
    }

    template <int BLOCKS>
    void write(const Meetings& of, int64_t pixel, int64_t at, int64_t length, int64_t row) const {
        const int64_t n = g.out_channels;
        const Entries entries = {static_cast<int32_t>(of.taps * (g.channels / g.groups)), 1};
        int64_t channels[BLOCKS];
        for (int i = 0; i < BLOCKS; ++i) channels[i] = (at + i * BYTES) % n;
        Ints<V> differing[BLOCKS][BYTES / V::outputs];
        count_bytes<V, IS_BIT, BLOCKS>(of, image.pixels, pixel * n + at, image.weight, channels, differing);
        for (int i = 0; i < BLOCKS; ++i) {
            const int64_t first = at + i * BYTES, here = least(BYTES, length - first), its_row = row + first / n;
            const auto sums = [&](int, int64_t c) { return entries.sums(differing[i][c / V::outputs]); };
            const Channels of = {channels[i], channels[i] + here};
            is_plain ? put_plain(sums, outputs.output, its_row, of) : put<V, 1, BYTES>(sums, outputs, &its_row, of);
        }
    }

    // The same as `put` for floats without steps, but faster, as few sums become floats at once. `output` is a copy,
    // because writes to y might change the original.
    template <class Sums>
    void put_plain(const Sums& sums, Output output, int64_t row, Channels of) const {
        float* const y = outputs.y + place_of(outputs, row, of.begin);
        with_overflow(output, [&](auto overflow) {
            const auto values = [&](int64_t c) { return scaled<V, overflow>(sums(0, c), output, of.begin + c); };
            int64_t c = 0;
            for (; c + V::outputs <= of.count(); c += V::outputs) store_part(values(c), V::outputs, y + c);
            if (c < of.count()) store_part(values(c), of.count() - c, y + c);
        });
    }

    // Write output columns [begin, end) of a row. Those that read all columns of the kernel are one array.
    void write_row(const Meetings& whole, int64_t row, int64_t begin, int64_t end) const {
        const int64_t taps = g.kernel[0] * g.kernel[1], n = g.out_channels;
        int64_t* const space = scratch + 2 * taps * planes_of(g);
        TapRange inside;
        find_taps_inside(g, 0, row, inside);
        const bool is_row = inside.last[0] - inside.first[0] == g.kernel[0];
        for (int64_t column = begin; column < end;) {
            find_taps_inside(g, 1, column, inside);
            const bool is_column = inside.last[1] - inside.first[1] == g.kernel[1];
            const Meetings of = is_row && is_column ? whole : meetings_of(g, inside, row, column, space);
            int64_t next = column + 1;
            if (is_column && (is_row || g.border == 0) && g.stride[1] == 1) {
                const int64_t past = g.size[1] - (g.kernel[1] - 1) * g.dilation[1] + g.padding[1];
                next = least(end, past);
            }
            const int64_t pixel = start_of(g, 0, row) * g.size[1] + start_of(g, 1, column);
            write(of, pixel, (next - column) * n, row * g.out_size[1] + column);
            column = next;
        }
    }
};

template <class V, bool IS_BIT>
inline void thin_pixels(const Thin<V, IS_BIT>& thin, int64_t begin, int64_t end) {
    const Geometry& g = thin.g;
    const Meetings whole = meetings_of(g, {{0, 0}, {g.kernel[0], g.kernel[1]}}, 0, 0, thin.scratch);
    const int64_t width = g.out_size[1];
    for (int64_t row = begin / width; row * width < end; ++row) {
        const int64_t first = row * width;
        thin.write_row(whole, row, most(begin - first, 0), least(end - first, width));
    }
}

template <class V>
void thin_conv(const ThinImage& image, const Geometry& g, const Outputs& outputs, int64_t* scratch, int64_t begin,
               int64_t end) {
    if (g.channels == g.groups) {
        thin_pixels<V, true>({image, g, outputs, scratch}, begin, end);
    } else {
        thin_pixels<V, false>({image, g, outputs, scratch}, begin, end);
    }
    if (image.nan != nullptr) put_nan_pixels(image.from.x, image.nan, g, outputs, begin, end);
}

}  // namespace
}  // namespace proxconnect
