// Products of rows of bytes with a binary weight by AVX-512 VNNI, which multiplies four pairs of bytes for each output
// in one instruction. The weight is 0 for -1 and 1 for +1: the product is twice the sum, less the sum of the row.
#pragma once

#include "float_sign/kernels.hpp"
#include "isa/avx512.hpp"

namespace proxconnect {
namespace {

struct ByteProducts {
    static constexpr int64_t LANES = 16, VECTORS = 4, TILE = LANES * VECTORS, PANELS = TILE / PANEL;
    static constexpr int64_t WORDS = 8;  // at once, whose bytes stay in the first cache

    // With an intrinsic, GCC 12 keeps the sums in memory.
    static __m512i add_products(__m512i sums, __m512i bits, __m512i x) {
        asm("vpdpbusd %2, %1, %0" : "+v"(sums) : "v"(bits), "v"(x));
        return sums;
    }

    // Spread a word of two panels to bytes of 0 and 1, in vectors `stride` bytes apart. Prefetch those of the next
    // tile, which are `ahead` words further on.
    static void spread(const uint64_t* low, const uint64_t* high, int64_t ahead, uint8_t* to, int64_t stride) {
        __builtin_prefetch(low + ahead), __builtin_prefetch(high + ahead);
        spread_panels(_mm512_loadu_si512(low), _mm512_loadu_si512(high), fours_of_bits(0, 1), to, stride);
    }

    // Round a row to bytes, padded with zeros to `size`, and return its sum. Rows with inf or NaN have the inverse 0
    // and become 0; their step makes them NaN.
    static int32_t round(const float* x, int64_t entries, float inverse, int8_t* to, int64_t size) {
        if (inverse == 0) {
            std::memset(to, 0, static_cast<size_t>(size));
            return 0;
        }
        const __m512 factor = _mm512_set1_ps(inverse);
        __m512i total = _mm512_setzero_si512();
        for (int64_t k = 0; k < size; k += 16) {
            const __m512 scaled = _mm512_mul_ps(_mm512_maskz_loadu_ps(first_lanes(entries - k), x + k), factor);
            const __m512i whole = _mm512_cvtps_epi32(scaled);
            total = _mm512_add_epi32(total, whole);
            _mm_storeu_si128(reinterpret_cast<__m128i*>(to + k), _mm512_cvtepi32_epi8(whole));
        }
        return _mm512_reduce_add_epi32(total);
    }

    // Add the products of `steps` vectors of a tile to the sums of ROWS rows, which are TILE apart.
    template <int ROWS>
    static void add(const int8_t* x, int64_t stride, const uint8_t* weight, int64_t steps, int32_t* to) {
        __m512i sums[ROWS][VECTORS];
        unrolled<ROWS>([&](auto r) ALWAYS_INLINE {
            unrolled<VECTORS>([&](auto v) ALWAYS_INLINE { sums[r][v] = _mm512_load_si512(to + r * TILE + v * LANES); });
        });
        for (int64_t step = 0; step < steps; ++step, x += 4, weight += 4 * TILE) {
            __m512i bits[VECTORS];
            unrolled<VECTORS>([&](auto v) ALWAYS_INLINE { bits[v] = _mm512_load_si512(weight + 4 * v * LANES); });
            unrolled<ROWS>([&](auto r) ALWAYS_INLINE {
                int32_t four;
                std::memcpy(&four, x + r * stride, sizeof four);
                const __m512i entries = _mm512_set1_epi32(four);
                unrolled<VECTORS>([&](auto v) ALWAYS_INLINE {
                    sums[r][v] = add_products(sums[r][v], bits[v], entries);
                });
            });
        }
        unrolled<ROWS>([&](auto r) ALWAYS_INLINE {
            unrolled<VECTORS>([&](auto v) ALWAYS_INLINE { _mm512_store_si512(to + r * TILE + v * LANES, sums[r][v]); });
        });
    }

    // Add the products of `entries` entries of a tile to the sums of all rows. Beyond them x is 0.
    static void add_rows(const int8_t* x, int64_t rows, int64_t stride, const uint8_t* weight, int64_t entries,
                         int32_t* to) {
        const int64_t steps = (entries + 3) / 4;
        for (; rows >= 6; rows -= 6, x += 6 * stride, to += 6 * TILE) add<6>(x, stride, weight, steps, to);
        switch (rows) {
            case 5: return add<5>(x, stride, weight, steps, to);
            case 4: return add<4>(x, stride, weight, steps, to);
            case 3: return add<3>(x, stride, weight, steps, to);
            case 2: return add<2>(x, stride, weight, steps, to);
            case 1: return add<1>(x, stride, weight, steps, to);
        }
    }

    // Write outputs [n, n + TILE) of all rows, or those that exist.
    static void put(const int32_t* sums, const int32_t* totals, const FloatRows& rows, const FloatOutputs& o,
                    int64_t n) {
        for (int64_t v = 0; v < VECTORS && n + v * LANES < least(o.n, o.last * PANEL); ++v) {
            const int64_t at = n + v * LANES, left = least(o.n, o.last * PANEL) - at;
            const __mmask16 here = first_lanes(left);
            __m512 scale = _mm512_set1_ps(1.0f), bias = _mm512_setzero_ps();
            const float* const scales = o.affine.scale;
            if (o.affine.scales == 1) scale = _mm512_set1_ps(*scales);
            if (o.affine.scales > 1) scale = _mm512_maskz_loadu_ps(here, scales + at);
            if (o.affine.bias != nullptr) bias = _mm512_maskz_loadu_ps(here, o.affine.bias + at);
            for (int64_t r = 0; r < rows.count; ++r) {
                const __m512i sum = _mm512_load_si512(sums + r * TILE + v * LANES);
                const __m512i exact = _mm512_sub_epi32(_mm512_add_epi32(sum, sum), _mm512_set1_epi32(totals[r]));
                const __m512 y = _mm512_mul_ps(_mm512_cvtepi32_ps(exact), _mm512_set1_ps(rows.quantum[r]));
                _mm512_mask_storeu_ps(o.y + r * o.stride + at, here, _mm512_add_ps(_mm512_mul_ps(y, scale), bias));
            }
        }
    }

    static void multiply(const FloatRows& rows, const FloatOutputs& o) {
        const int64_t width = words_of(rows.entries), stride = width * 64;
        const int64_t ahead = PANELS * width * PANEL;
        auto* const x = static_cast<int8_t*>(scratch<int8_t>(rows.count * stride));
        auto* const totals = static_cast<int32_t*>(scratch<FloatRows>(rows.count * sizeof(int32_t)));
        auto* const sums = static_cast<int32_t*>(scratch<int32_t>(rows.count * TILE * sizeof(int32_t)));
        auto* const weight = static_cast<uint8_t*>(scratch<uint8_t>(WORDS * 64 * TILE));
        for (int64_t r = 0; r < rows.count; ++r) {
            totals[r] = round(rows.x + r * rows.stride, rows.entries, rows.inverse[r], x + r * stride, stride);
        }
        for (int64_t panel = o.first; panel < o.last; panel += PANELS) {
            std::memset(sums, 0, static_cast<size_t>(rows.count * TILE) * sizeof(int32_t));
            const auto at = [&](int64_t i) { return o.panels + least(panel + i, o.last - 1) * width * PANEL; };
            for (int64_t j = 0; j < width; j += WORDS) {
                const int64_t words = least(WORDS, width - j);
                for (int64_t i = 0; i < words; ++i) {
                    for (int64_t v = 0; v < VECTORS; ++v) {
                        spread(at(2 * v) + (j + i) * PANEL, at(2 * v + 1) + (j + i) * PANEL, ahead,
                               weight + i * 64 * TILE + v * 4 * LANES, 4 * TILE);
                    }
                }
                const int64_t entries = least(words * 64, rows.entries - j * 64);
                add_rows(x + j * 64, rows.count, stride, weight, entries, sums);
            }
            put(sums, totals, rows, o, panel * PANEL);
        }
    }
};

}  // namespace
}  // namespace proxconnect
