// Rounded entries times a binary weight by tables of sums. The 32 sums ±a±b±c±d±e of five entries have 16 bits each and
// fill a vector. vpermw looks up one of them for each of 32 outputs, by five bits of the weight.
#pragma once

#include <type_traits>

#include "epilogue/finished_numbers.hpp"
#include "float_sign/table_conv.hpp"
#include "isa/avx512.hpp"

namespace proxconnect {
namespace {

// The tables of 64 entries: three of five entries for each sixteen, and one of the last entries of all sixteens. Sum i
// of a table adds entry k if bit k of i is set, else subtracts it. `third_is_minus` and `third_is_plus` have the signs
// of the first four entries for each lane, `fifth` that of the fifth. `offsets` correct that entries are stored as
// q + 128.
struct alignas(64) SumTables {
    static constexpr int ZERO = 128;
    static constexpr int64_t ENTRIES = 64, LANES = 32, COUNT = 13;
    static constexpr int64_t FLOATS = 16;  // the size of a table
    int8_t third_is_minus[64] = {}, third_is_plus[64] = {}, fifth[64] = {};
    int16_t offsets[LANES] = {};

    constexpr SumTables() {
        for (int lane = 0; lane < 16; ++lane) {
            int8_t* const minus = third_is_minus + 4 * lane;
            for (const int k : {0, 1, 3}) minus[k] = (lane >> (k < 2 ? k : 2) & 1) != 0 ? 1 : -1;
            minus[2] = -1;
            for (int k = 0; k < 4; ++k) third_is_plus[4 * lane + k] = k == 2 ? 1 : minus[k];
            fifth[4 * lane + 3] = (lane >> 3) != 0 ? 1 : -1;
        }
        for (int i = 0; i < LANES; ++i) {
            for (int k = 0; k < 5; ++k) {
                offsets[i] = static_cast<int16_t>(offsets[i] + ((i >> k & 1) != 0 ? -ZERO : ZERO));
            }
        }
    }

    static __m512i fours_at(const uint8_t* from) {
        int32_t four;
        std::memcpy(&four, from, sizeof four);
        return _mm512_set1_epi32(four);
    }

    // Make the tables of 64 entries. They should not have been written shortly before, as single bytes are loaded.
    void put_all(const uint8_t* x, float* to) const {
        __m512i minus = _mm512_load_si512(third_is_minus), plus = _mm512_load_si512(third_is_plus);
        __m512i of_fifth = _mm512_load_si512(fifth), offset = _mm512_load_si512(offsets);
        asm("" : "+v"(minus), "+v"(plus), "+v"(of_fifth), "+v"(offset));  // GCC 12 would load them for every table
        const auto put = [&](__m512i four, __m512i next) ALWAYS_INLINE {
            const __m512i last = _mm512_dpbusd_epi32(_mm512_setzero_si512(), next, of_fifth);
            const __m512i sums = _mm512_packs_epi32(_mm512_dpbusd_epi32(last, four, minus),
                                                    _mm512_dpbusd_epi32(last, four, plus));
            _mm512_store_si512(to, _mm512_add_epi16(sums, offset));
            to += FLOATS;
        };
        uint32_t last = 0;
        for (int64_t k = 0; k < ENTRIES; k += 16) {
            for (int64_t i = k; i < k + 15; i += 5) put(fours_at(x + i), fours_at(x + i + 1));
            last |= uint32_t{x[k + 15]} << (k / 2);
        }
        const uint32_t next = last >> 8 | uint32_t{ZERO} << 24;
        put(_mm512_set1_epi32(static_cast<int>(last)), _mm512_set1_epi32(static_cast<int>(next)));
    }
};
constexpr SumTables SUM_TABLES;

constexpr int64_t NUMBERS = 5;

// Arrange one word of 32 outputs as NUMBERS vectors, `apart` numbers apart: four with sixteen bits of each output, and
// one with the highest of these bits. The first sixteen outputs are in the even lanes.
inline void put_numbers(const uint64_t* const (&panels)[4], int64_t word, int64_t apart, uint16_t* to) {
    alignas(64) static constexpr uint16_t FOURTHS[32] = {
        0,  0,  4,  4,  8,  8,  12, 12, 16, 16, 20, 20, 24, 24, 28, 28,
        32, 32, 36, 36, 40, 40, 44, 44, 48, 48, 52, 52, 56, 56, 60, 60,
    };
    __m512i of[4], highest = _mm512_setzero_si512();
    for (int p = 0; p < 4; ++p) of[p] = _mm512_loadu_si512(panels[p] + word * PANEL);
    for (int16_t k = 0; k < 4; ++k, to += apart) {
        const __m512i places = _mm512_add_epi16(_mm512_load_si512(FOURTHS), _mm512_set1_epi16(k));
        const __m512i low = _mm512_permutex2var_epi16(of[0], places, of[1]);
        const __m512i high = _mm512_permutex2var_epi16(of[2], places, of[3]);
        const __m512i bits = _mm512_mask_blend_epi16(0xaaaaaaaa, low, high);
        _mm512_store_si512(to, bits);
        const __m512i bit = _mm512_maskz_set1_epi16(_mm512_movepi16_mask(bits), static_cast<int16_t>(1 << k));
        highest = _mm512_or_si512(highest, bit);
    }
    _mm512_store_si512(to, highest);
}

constexpr int64_t TILE_OUTPUTS = 4 * SumTables::LANES;

// The numbers that sums represent, which are whole, or floats if groups have scales. Sums are TILE_OUTPUTS apart.
template <class Sum>
struct NumbersOfSums {
    using Vector = std::conditional_t<std::is_same_v<Sum, float>, Floats<Avx512>, Ints<Avx512>>;

    const Sum* sums;
    const float* quantum;
    int64_t apart;

    Floats<Avx512> of(int64_t row, int64_t c) const {
        const Vector sum = loaded<Vector>(sums + row * TILE_OUTPUTS + c);
        return __builtin_convertvector(sum, Floats<Avx512>) * quantum[row * apart];
    }
};

// A tile of VECTORS times 32 outputs from output n on, `end` of all. `numbers` has its words one after the other.
template <int VECTORS>
struct SumTile {
    static constexpr int64_t LANES = SumTables::LANES, WIDTH = VECTORS * LANES;

    const BytePixels& x;
    const Outputs& then;
    int64_t n, end;
    const uint16_t* numbers;

    template <int ROWS>
    using Sums = __m512i[ROWS][VECTORS];

    // Compute the outputs of pixels from `pixel` on.
    template <int ROWS>
    void add(const RowsOfTables<ROWS>& tables, int64_t words, int64_t pixel) const {
        if (then.output.group == 0) put<ROWS, int32_t>(pixel, [&](int32_t* to) { add_all<ROWS>(tables, words, to); });
        else put<ROWS, float>(pixel, [&](float* to) { add_groups<ROWS>(tables, words, to); });
    }

    template <int ROWS, class Sum, class Add>
    void put(int64_t pixel, const Add& add) const {
        alignas(64) Sum sums[ROWS * TILE_OUTPUTS];
        add(sums);
        Outputs here = then;
        here.first += pixel;
        const NumbersOfSums<Sum> of_pixels = {sums, x.quantum + pixel * x.apart, x.apart};
        put_finished<Avx512, 2, ROWS>(of_pixels, ROWS, n, least(WIDTH, end - n), here);
    }

    static constexpr int64_t AT_ONCE = INT16_MAX / (127 * SumTables::ENTRIES);  // words whose sums have 16 bits

    template <int ROWS>
    void add_all(const RowsOfTables<ROWS>& tables, int64_t words, int32_t* to) const {
        for (int64_t word = 0, last; word < words; word = last) {
            last = least(word + AT_ONCE, words);
            const __mmask16 added = word > 0 ? 0xffff : 0;
            Sums<ROWS> sums;
            add_words<ROWS>(tables, word, last, sums);
            unrolled<ROWS>([&](auto r) ALWAYS_INLINE {
                unrolled<VECTORS>([&](auto v) ALWAYS_INLINE {
                    int32_t* const place = to + r * TILE_OUTPUTS + v * LANES;
                    add_to(place, added, sums[r][v], _mm512_set1_epi32(1));
                    add_to(place + LANES / 2, added, sums[r][v], _mm512_set1_epi32(1 << 16));
                });
            });
        }
    }

    // Add the even or odd sums to memory, which holds none yet if `added` is 0.
    static void add_to(int32_t* to, __mmask16 added, __m512i sums, __m512i every_other) {
        const __m512i before = _mm512_maskz_load_epi32(added, to);
        _mm512_store_si512(to, _mm512_dpwssd_epi32(before, sums, every_other));
    }

    // Add up sums of groups of entries times their scales.
    template <int ROWS>
    void add_groups(const RowsOfTables<ROWS>& tables, int64_t words, float* to) const {
        const int64_t group = words_of(then.output.group);
        GroupScales scales(then.output, words * SumTables::ENTRIES, n, 0);
        for (int64_t word = 0, last; word < words; word = last) {
            const int64_t next = (word / group + 1) * group;
            last = least(word + AT_ONCE, next);
            const __mmask16 added = word > 0 ? 0xffff : 0;
            Sums<ROWS> sums;
            add_words<ROWS>(tables, word, last, sums);
            unrolled<VECTORS>([&](auto v) ALWAYS_INLINE {
                const __m512 low = scales.vector<Avx512>(v * LANES), high = scales.vector<Avx512>(v * LANES + LANES / 2);
                unrolled<ROWS>([&](auto r) ALWAYS_INLINE {
                    float* const place = to + r * TILE_OUTPUTS + v * LANES;
                    add_scaled(place, added, _mm512_slli_epi32(sums[r][v], 16), low);
                    add_scaled(place + LANES / 2, added, sums[r][v], high);
                });
            });
            if (last == next) scales.go_to_next_group();
        }
    }

    // Add sums, which are in the upper halves of words, times their scales.
    static void add_scaled(float* to, __mmask16 added, __m512i sums, __m512 scale) {
        const __m512 exact = _mm512_cvtepi32_ps(_mm512_srai_epi32(sums, 16));
        _mm512_store_ps(to, _mm512_add_ps(_mm512_maskz_load_ps(added, to), _mm512_mul_ps(exact, scale)));
    }

    // Add up words [word, last).
    template <int ROWS>
    ALWAYS_INLINE void add_words(const RowsOfTables<ROWS>& tables, int64_t word, int64_t last,
                                 Sums<ROWS>& sums) const {
        unrolled<ROWS>([&](auto r) ALWAYS_INLINE {
            unrolled<VECTORS>([&](auto v) ALWAYS_INLINE { sums[r][v] = _mm512_setzero_si512(); });
        });
        for (; word < last; ++word) look_up<ROWS>(tables, tables.offsets[word], numbers + word * NUMBERS * WIDTH, sums);
    }

    template <int ROWS>
    ALWAYS_INLINE static void look_up(const RowsOfTables<ROWS>& tables, int64_t at, const uint16_t* from,
                                      Sums<ROWS>& sums) {
        __m512i of[VECTORS];
        const auto load = [&]() ALWAYS_INLINE {
            unrolled<VECTORS>([&](auto v) ALWAYS_INLINE { of[v] = _mm512_load_si512(from + v * LANES); });
            from += WIDTH;
        };
        const auto add = [&]() ALWAYS_INLINE {
            unrolled<ROWS>([&](auto r) ALWAYS_INLINE {
                const __m512i table = _mm512_load_si512(tables.rows[r] + at);
                unrolled<VECTORS>([&](auto v) ALWAYS_INLINE { add_found(sums[r][v], table, of[v]); });
            });
            at += SumTables::FLOATS;
        };
        for (int k = 0; k < 4; ++k) {
            load();
            add();
            unrolled<2>([&](auto) ALWAYS_INLINE {
                unrolled<VECTORS>([&](auto v) ALWAYS_INLINE { of[v] = _mm512_srli_epi16(of[v], 5); });
                add();
            });
        }
        load();
        add();
    }

    // With intrinsics, GCC 12 looks up all sums first, which are more than there are registers.
    static void add_found(__m512i& sum, __m512i table, __m512i numbers) {
        __m512i found;
        asm("vpermw %2, %3, %1\n\tvpaddw %1, %0, %0" : "+v"(sum), "=&v"(found) : "v"(table), "v"(numbers));
    }
};

// The product of TableConv, for outputs [first, last) of a weight whose rows have `words` words.
struct SumProduct {
    static constexpr int rows = 6;
    static constexpr int64_t ENTRIES = SumTables::ENTRIES, FLOATS = SumTables::COUNT * SumTables::FLOATS;
    static constexpr int64_t LANES = SumTables::LANES;

    const BytePixels& x;
    const uint64_t* panels;
    int64_t words, first, last;
    const Outputs& then;

    void make(int64_t row, int64_t column, int64_t count, float* to) const {
        const uint8_t* const pixel = x.bytes + row * x.row_stride + column * x.pixel_stride;
        for (int64_t k = 0; k < count; ++k) SUM_TABLES.put_all(pixel + k * ENTRIES, to + k * FLOATS);
    }

    template <class Work>
    void each_tile(int64_t, int64_t, const Work& work) const {
        auto* const numbers = scratch<uint16_t, SumTables>(words * NUMBERS * TILE_OUTPUTS);
        for (int64_t n = first, left; n < last; n += left > 3 * LANES ? 4 * LANES : left > LANES ? 2 * LANES : LANES) {
            left = last - n;
            if (left > 3 * LANES) work(tile<4>(n, numbers));
            else if (left > LANES) work(tile<2>(n, numbers));
            else work(tile<1>(n, numbers));
        }
    }

  private:
    template <int VECTORS>
    SumTile<VECTORS> tile(int64_t n, uint16_t* numbers) const {
        constexpr int64_t WIDTH = VECTORS * LANES;
        for (int64_t v = 0; v < VECTORS; ++v) {
            const uint64_t* of[4];
            for (int64_t p = 0; p < 4; ++p) {
                of[p] = panels + least(n / PANEL + 4 * v + p, panels_of(last) - 1) * words * PANEL;
            }
            for (int64_t word = 0; word < words; ++word) {
                put_numbers(of, word, WIDTH, numbers + word * NUMBERS * WIDTH + v * LANES);
            }
        }
        return {x, then, n, last, numbers};
    }
};

}  // namespace
}  // namespace proxconnect
