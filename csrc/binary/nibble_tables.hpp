// Counts of differing bits by tables, for AVX2. Four bits of the input select a table of sixteen bytes, where vpshufb
// finds four bits of each of 32 outputs (T-MAC: Wei 2024, arXiv 2407.00088).
#pragma once

#include <immintrin.h>

#include "binary/products.hpp"
#include "isa/unrolled.hpp"
#include "runtime/scratch.hpp"

namespace proxconnect {
namespace {

// Table i has the number of bits that differ between i and 0 to 15, twice.
struct alignas(32) DifferingBits {
    uint8_t of[16][32] = {};

    constexpr DifferingBits() {
        for (int i = 0; i < 16 * 32; ++i) {
            const int x = i / 32 ^ i % 16;
            of[i / 32][i % 32] = static_cast<uint8_t>((x & 1) + (x >> 1 & 1) + (x >> 2 & 1) + (x >> 3));
        }
    }
};

constexpr DifferingBits differing_bits;

struct NibbleTables {
    static constexpr int panels = 8, VECTORS = 2, NIBBLES = 16;  // vectors of 32 outputs; nibbles of a word

    // Tables do not pay for few rows, because the weight must be rearranged. Counts of 16 bits bound its width.
    static bool are_worth_it(int64_t rows, int64_t width) { return rows >= 16 && width <= 500; }

    // Rearrange eight panels: for each word sixteen times 64 bytes, the same four bits of each output. The result lies
    // in memory of this thread until the next call.
    static const uint64_t* rearranged(const uint64_t* from, int64_t width) {
        auto* const to = reinterpret_cast<__m256i*>(scratch<uint8_t, NibbleTables>(width * NIBBLES * VECTORS * 32));
        for (int64_t i = 0; i < VECTORS * width; ++i) {
            const int64_t vector = i / width, j = i % width;
            __m128i bytes[4][4];  // of four panels: two of the eight bytes of each row
            for (int p = 0; p < 4; ++p) spread(from + ((4 * vector + p) * width + j) * PANEL, bytes[p]);
            for (int k = 0; k < 4; ++k) {
                const __m256i even = _mm256_set_m128i(bytes[1][k], bytes[0][k]);
                const __m256i odd = _mm256_set_m128i(bytes[3][k], bytes[2][k]);
                __m256i* const place = to + (j * NIBBLES + 4 * k) * VECTORS + vector;
                put(_mm256_unpacklo_epi64(even, odd), place);
                put(_mm256_unpackhi_epi64(even, odd), place + 2 * VECTORS);
            }
        }
        return reinterpret_cast<const uint64_t*>(to);
    }

    template <int ROWS, class Words, class Sums>
    static ALWAYS_INLINE void sum(const Words& of, const uint64_t* weights, Entries entries, Sums& sums) {
        constexpr int64_t FULL = 3;  // words, after which a byte cannot hold four more for each nibble of another
        const uint64_t* inputs[ROWS];
        unrolled<ROWS>([&](auto r) ALWAYS_INLINE { inputs[r] = of.row(r); });
        __m256i totals[ROWS][2 * VECTORS] = {};  // sixteen counts each
        for (int64_t begin = 0; begin < of.count; begin += FULL) {
            __m256i counts[ROWS][VECTORS] = {};
            const int64_t end = least(of.count, begin + FULL);
            for (int64_t j = begin; j < end; ++j) {
                add<ROWS>(inputs, of.input(j), weights + of.weight(j) * NIBBLES, counts);
            }
            unrolled<ROWS * VECTORS>([&](auto i) ALWAYS_INLINE {
                const __m256i count = counts[i / VECTORS][i % VECTORS], none = _mm256_setzero_si256();
                __m256i* const total = totals[i / VECTORS] + 2 * (i % VECTORS);
                total[0] = _mm256_add_epi16(total[0], _mm256_unpacklo_epi8(count, none));
                total[1] = _mm256_add_epi16(total[1], _mm256_unpackhi_epi8(count, none));
            });
        }
        for (int i = 0; i < ROWS * 2 * VECTORS; ++i) {
            const int r = i / (2 * VECTORS), part = i % (2 * VECTORS);
            const __m256i total = totals[r][part];
            const __m256i low = _mm256_cvtepu16_epi32(_mm256_castsi256_si128(total));
            const __m256i high = _mm256_cvtepu16_epi32(_mm256_extracti128_si256(total, 1));
            sums[r][2 * part] = entries.sums((Vectors<8>::Ints)low);
            sums[r][2 * part + 1] = entries.sums((Vectors<8>::Ints)high);
        }
    }

  private:
    // Spread a word of eight rows: bytes 2k and 2k + 1 of all rows lie in to[k].
    static void spread(const uint64_t* word, __m128i (&to)[4]) {
        const __m128i pairs = _mm_setr_epi8(0, 8, 1, 9, 2, 10, 3, 11, 4, 12, 5, 13, 6, 14, 7, 15);
        __m128i rows[4];  // two each
        for (int i = 0; i < 4; ++i) {
            rows[i] = _mm_shuffle_epi8(_mm_loadu_si128(reinterpret_cast<const __m128i*>(word + 2 * i)), pairs);
        }
        const __m128i a = _mm_unpacklo_epi16(rows[0], rows[1]), b = _mm_unpackhi_epi16(rows[0], rows[1]);
        const __m128i c = _mm_unpacklo_epi16(rows[2], rows[3]), d = _mm_unpackhi_epi16(rows[2], rows[3]);
        to[0] = _mm_unpacklo_epi32(a, c), to[1] = _mm_unpackhi_epi32(a, c);
        to[2] = _mm_unpacklo_epi32(b, d), to[3] = _mm_unpackhi_epi32(b, d);
    }

    // Write the lower and the upper four bits of bytes.
    static void put(__m256i bytes, __m256i* to) {
        const __m256i low = _mm256_set1_epi8(15);
        to[0] = _mm256_and_si256(bytes, low);
        to[VECTORS] = _mm256_and_si256(_mm256_srli_epi16(bytes, 4), low);
    }

    // Add a word of each row. GCC 12 runs out of registers if it sees all lookups, so two instructions are in one asm.
    template <int ROWS>
    static ALWAYS_INLINE void add(const uint64_t* const (&inputs)[ROWS], int64_t at, const uint64_t* weights,
                                  __m256i (&counts)[ROWS][VECTORS]) {
        const auto* const nibbles = reinterpret_cast<const __m256i*>(weights);
        uint64_t words[ROWS];
        unrolled<ROWS>([&](auto r) ALWAYS_INLINE { words[r] = inputs[r][at]; });
        unrolled<NIBBLES * ROWS>([&](auto i) ALWAYS_INLINE {
            constexpr int nibble = i / ROWS, r = i % ROWS, shift = (4 * nibble + 59) % 64;
            const uint64_t place = (words[r] >> shift | words[r] << (64 - shift)) & 15 << 5;  // 32 times the nibble
            const auto* const table = reinterpret_cast<const __m256i*>(differing_bits.of[0] + place);
            unrolled<VECTORS>([&](auto v) ALWAYS_INLINE {
                __m256i found;
                asm("vpshufb %3, %2, %1\n\tvpaddb %1, %0, %0"
                    : "+x"(counts[r][v]), "=&x"(found)
                    : "x"(*table), "xm"(nibbles[nibble * VECTORS + v]));
            });
        });
    }
};

}  // namespace
}  // namespace proxconnect
