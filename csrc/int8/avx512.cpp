// AVX-512. VNNI multiplies four pairs of bytes for each output in one instruction.
#include "int8/inputs.hpp"
#include "int8/outputs.hpp"
#include "isa/avx512.hpp"

namespace proxconnect {
namespace {

// The places of the first 1 to 4 bytes of each of four words, word after word, and those of sixteen times as many bytes
// in lanes that begin with them, four bytes after four. Functions of a std::array would have linkage.
struct alignas(64) FirstBytes {
    uint8_t of_words[4][16] = {};
    alignas(64) int32_t of_lanes[4][16] = {};

    constexpr FirstBytes() {
        for (int count = 1; count <= 4; ++count) {
            for (int i = 0; i < 4 * count; ++i) {
                of_words[count - 1][i] = static_cast<uint8_t>(i / count * 4 + i % count);
                of_lanes[count - 1][i] = i / count * 4 + i % count;
            }
        }
    }
};
constexpr FirstBytes FIRST_BYTES;

struct Vnni : Avx512 {
    static void put_pixels(const Words<Vnni>& words, int64_t channels, int64_t count, uint8_t* to) {
        const auto* const of_four = reinterpret_cast<const __m128i*>(FIRST_BYTES.of_words[channels - 1]);
        const __m512i lanes = _mm512_shuffle_epi8((__m512i)words, _mm512_broadcast_i32x4(_mm_load_si128(of_four)));
        const __m512i places = _mm512_load_si512(FIRST_BYTES.of_lanes[channels - 1]);
        const __m512i bytes = _mm512_permutexvar_epi32(places, lanes);
        _mm512_mask_storeu_epi8(to, ~uint64_t{0} >> (64 - channels * count), bytes);
    }

    // With an intrinsic, GCC 12 keeps the sums in memory.
    static __m512i add_products(__m512i sums, __m512i x, __m512i weight) {
        asm("vpdpbusd %2, %1, %0" : "+v"(sums) : "v"(x), "v"(weight));
        return sums;
    }

    // Sum ROWS rows with COUNT blocks. Sums are TILE apart.
    template <int ROWS, int COUNT>
    static void add_tile(const ByteRows& rows, int64_t row, const int8_t* panels, int32_t* to) {
        const int64_t apart = block_bytes(rows.step_count);
        __m512i sums[ROWS][COUNT];
        unrolled<ROWS>([&](auto r) ALWAYS_INLINE {
            unrolled<COUNT>([&](auto i) ALWAYS_INLINE { sums[r][i] = _mm512_setzero_si512(); });
        });
        for (int64_t j = 0; j < rows.step_count; ++j, panels += STEP_BYTES) {
            const uint8_t* x = rows.x + row * rows.stride + rows.steps[j].at;
            const int8_t* four_of_all = panels;
            for (int64_t k = 0; k < rows.steps[j].fours; ++k, x += 4, four_of_all += 4 * BLOCK) {
                __m512i weight[COUNT];
                unrolled<COUNT>([&](auto i) ALWAYS_INLINE { weight[i] = _mm512_loadu_si512(four_of_all + i * apart); });
                unrolled<ROWS>([&](auto r) ALWAYS_INLINE {
                    int32_t four;
                    std::memcpy(&four, x + r * rows.stride, sizeof four);
                    const __m512i entries = _mm512_set1_epi32(four);
                    unrolled<COUNT>([&](auto i) ALWAYS_INLINE {
                        sums[r][i] = add_products(sums[r][i], entries, weight[i]);
                    });
                });
            }
        }
        unrolled<ROWS>([&](auto r) ALWAYS_INLINE {
            unrolled<COUNT>([&](auto i) ALWAYS_INLINE { _mm512_storeu_si512(to + r * TILE + i * BLOCK, sums[r][i]); });
        });
    }

    template <int COUNT>
    static void add_rows(const ByteRows& rows, const int8_t* panels, int32_t* sums) {
        int64_t row = 0;
        for (; row + 4 <= rows.count; row += 4) add_tile<4, COUNT>(rows, row, panels, sums + row * TILE);
        for (; row < rows.count; ++row) add_tile<1, COUNT>(rows, row, panels, sums + row * TILE);
    }

    static void add(const ByteRows& rows, const int8_t* panels, int64_t blocks, int32_t* sums) {
        if (blocks == BLOCKS) return add_rows<BLOCKS>(rows, panels, sums);
        for (int64_t i = 0; i < blocks; ++i) {
            add_rows<1>(rows, panels + i * block_bytes(rows.step_count), sums + i * BLOCK);
        }
    }
};

}  // namespace

const Int8Kernels avx512_int8 = {
    round_bytes, round_planes<Vnni>, mean<Vnni>,      multiply_bytes<Vnni>,
    Vnni::add,   finish_sums<Vnni>,  pool_sums<Vnni>, nullptr,
};

}  // namespace proxconnect
