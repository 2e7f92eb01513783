// The tables of rounded_tables.hpp with AVX-512. vpermw looks up sums for 32 outputs.
#pragma once

#include <immintrin.h>

#include "float_sign/rounded_tables.hpp"

namespace proxconnect {
namespace {

// A word of 32 outputs, arranged by entries: lane 4i + p of vector k has entries 16k to 16k + 15 of output i of panel p.
struct Sixteens {
    __m512i of[4];

    ALWAYS_INLINE void load(const uint64_t* const* panels, int64_t word) {
        const __m512i swapped = _mm512_set4_epi32(0x0d0c0f0e, 0x09080b0a, 0x05040706, 0x01000302);  // 16 bits with next
        __m512i even[2], odd[2];  // sixteens of two panels in turn
        unrolled<2>([&](auto p) ALWAYS_INLINE {
            const __m512i a = loaded(panels[2 * p] + word * PANEL), b = loaded(panels[2 * p + 1] + word * PANEL);
            even[p] = _mm512_mask_shuffle_epi8(a, 0xcccccccccccccccc, b, swapped);
            odd[p] = _mm512_mask_shuffle_epi8(b, 0x3333333333333333, a, swapped);
        });
        of[0] = _mm512_mask_shuffle_epi32(even[0], 0xaaaa, even[1], _MM_PERM_CDAB);
        of[1] = _mm512_mask_shuffle_epi32(odd[0], 0xaaaa, odd[1], _MM_PERM_CDAB);
        of[2] = _mm512_mask_shuffle_epi32(even[1], 0x5555, even[0], _MM_PERM_CDAB);
        of[3] = _mm512_mask_shuffle_epi32(odd[1], 0x5555, odd[0], _MM_PERM_CDAB);
    }

    // Return the numbers of a four, in the lowest bits of lanes. A product shifts like a shift, on ports that vpermw does
    // not use.
    template <int FOUR>
    ALWAYS_INLINE __m512i numbers() const {
        if constexpr (FOUR % 4 == 0) return of[FOUR / 4];
        else return _mm512_mulhi_epu16(of[FOUR / 4], _mm512_set1_epi16(1 << (16 - 4 * (FOUR % 4))));
    }

    // With intrinsics, GCC 12 copies panels to the stack and back.
    ALWAYS_INLINE static __m512i loaded(const uint64_t* from) {
        __m512i eight;
        asm("vmovdqu64 %1, %0" : "=v"(eight) : "m"(*reinterpret_cast<const uint64_t(*)[PANEL]>(from)));
        return eight;
    }
};

// Sums of 16 bits in the order of Sixteens.
struct WordSums {
    __m512i all;

    // With intrinsics, GCC 12 looks up all sums first, which are more than there are registers.
    ALWAYS_INLINE void look_up(__m512i table, __m512i numbers) {
        __m512i found;
        asm("vpermw %2, %3, %1\n\tvpaddw %1, %0, %0" : "+v"(all), "=&v"(found) : "v"(table), "v"(numbers));
    }

    ALWAYS_INLINE void add_to(__m512* sums) const {
        alignas(64) static constexpr int16_t PLACES[32] = {
            0, 4, 8,  12, 16, 20, 24, 28, 1, 5, 9,  13, 17, 21, 25, 29,  //
            2, 6, 10, 14, 18, 22, 26, 30, 3, 7, 11, 15, 19, 23, 27, 31,
        };
        const __m512i ordered = _mm512_permutexvar_epi16(_mm512_load_si512(PLACES), all);
        sums[0] += _mm512_cvtepi32_ps(_mm512_cvtepi16_epi32(_mm512_castsi512_si256(ordered)));
        sums[1] += _mm512_cvtepi32_ps(_mm512_cvtepi16_epi32(_mm512_extracti64x4_epi64(ordered, 1)));
    }
};

// Numbers have five bits, of which the last is that of the next number, so each table is there twice.
struct WordTables {
    using Weight = Sixteens;
    using Sums = WordSums;
    static constexpr int64_t BYTES = 64;
    static constexpr int blocks = 2;

    // Write ±a±b±c±d for four bytes: sum i adds entry k if bit k of i is set, else subtracts it. Products of bytes have
    // an unsigned factor, so entries get 128, and sums start without it.
    ALWAYS_INLINE static void put(const int8_t* x, uint8_t* to) {
        const __m256i minus = _mm256_setr_epi8(-1, -1, -1, -1, 1, -1, -1, -1, -1, 1, -1, -1, 1, 1, -1, -1,  //
                                               -1, -1, -1, 1, 1, -1, -1, 1, -1, 1, -1, 1, 1, 1, -1, 1);
        const __m256i plus = _mm256_setr_epi8(-1, -1, 1, -1, 1, -1, 1, -1, -1, 1, 1, -1, 1, 1, 1, -1,  //
                                              -1, -1, 1, 1, 1, -1, 1, 1, -1, 1, 1, 1, 1, 1, 1, 1);
        const __m256i start_minus = _mm256_setr_epi32(512, 256, 256, 0, 256, 0, 0, -256);
        const __m256i start_plus = _mm256_setr_epi32(256, 0, 0, -256, 0, -256, -256, -512);
        int32_t four;
        std::memcpy(&four, x, sizeof four);
        const __m256i entries = _mm256_xor_si256(_mm256_set1_epi32(four), _mm256_set1_epi8(-128));
        const __m256i sums = _mm256_packs_epi32(_mm256_dpbusd_epi32(start_minus, entries, minus),
                                                _mm256_dpbusd_epi32(start_plus, entries, plus));
        for (int half = 0; half < 2; ++half) _mm256_storeu_si256(reinterpret_cast<__m256i*>(to) + half, sums);
    }

    template <int ROWS, int BLOCKS>
    ALWAYS_INLINE static void add_word(const uint8_t* tables, int64_t of_row, const Weight (&weight)[BLOCKS],
                                       Sums (&sums)[ROWS][BLOCKS]) {
        unrolled<FOURS>([&](auto four) ALWAYS_INLINE {
            __m512i numbers[BLOCKS];
            unrolled<BLOCKS>([&](auto b) ALWAYS_INLINE { numbers[b] = weight[b].template numbers<four>(); });
            unrolled<ROWS>([&](auto r) ALWAYS_INLINE {
                const __m512i table = _mm512_loadu_si512(tables + four * BYTES + r * of_row);
                unrolled<BLOCKS>([&](auto b) ALWAYS_INLINE { sums[r][b].look_up(table, numbers[b]); });
            });
        });
    }
};

}  // namespace
}  // namespace proxconnect
