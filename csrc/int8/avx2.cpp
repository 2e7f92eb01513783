// AVX2. Four entries of four outputs become 16 bits each, which vpmaddwd multiplies and adds in pairs. (vpmaddubsw
// takes bytes, but its sums of two saturate at 2^15.)
#include <immintrin.h>

#include "int8/kernels.hpp"

namespace proxconnect {
namespace {

constexpr int64_t VECTORS = 4;  // of four outputs, in a block

// Sum ROWS rows with one block. Sums are TILE apart.
template <int ROWS>
void add_rows(const ByteRows& rows, int64_t row, const int8_t* panel, int32_t* to) {
    __m256i sums[ROWS][VECTORS];
    for (int r = 0; r < ROWS; ++r) {
        for (int v = 0; v < VECTORS; ++v) sums[r][v] = _mm256_setzero_si256();
    }
    const uint8_t* const begin = rows.x + row * rows.stride;
    for (int64_t j = 0; j < rows.step_count; ++j, panel += STEP_BYTES) {
        const uint8_t* x = begin + rows.steps[j].at;
        const int8_t* weight = panel;
        for (int64_t k = 0; k < rows.steps[j].fours; ++k, x += 4, weight += 4 * BLOCK) {
            __m256i entries[ROWS];
            for (int r = 0; r < ROWS; ++r) {
                int32_t four;
                std::memcpy(&four, x + r * rows.stride, sizeof four);
                entries[r] = _mm256_cvtepu8_epi16(_mm_set1_epi32(four));
            }
            for (int v = 0; v < VECTORS; ++v) {
                const auto* const from = reinterpret_cast<const __m128i*>(weight + 16 * v);
                const __m256i of_four = _mm256_cvtepi8_epi16(_mm_loadu_si128(from));
                for (int r = 0; r < ROWS; ++r) {
                    sums[r][v] = _mm256_add_epi32(sums[r][v], _mm256_madd_epi16(of_four, entries[r]));
                }
            }
        }
    }
    for (int r = 0; r < ROWS; ++r) {
        for (int v = 0; v < VECTORS; v += 2) {
            const __m256i mixed = _mm256_hadd_epi32(sums[r][v], sums[r][v + 1]);
            const __m256i ordered = _mm256_permute4x64_epi64(mixed, 0xd8);
            _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + r * TILE + 4 * v), ordered);
        }
    }
}

}  // namespace

void add_pairs(const ByteRows& rows, const int8_t* panels, int64_t blocks, int32_t* sums) {
    for (int64_t i = 0; i < blocks; ++i, panels += block_bytes(rows.step_count), sums += BLOCK) {
        int64_t r = 0;
        for (; r + 2 <= rows.count; r += 2) add_rows<2>(rows, r, panels, sums + r * TILE);
        if (r < rows.count) add_rows<1>(rows, r, panels, sums + r * TILE);
    }
}

void add_by_avx2(const ByteRows& rows, const int8_t* panels, int64_t blocks, int32_t* sums) {
#if defined(PROXCONNECT_AVX_VNNI)
    if (__builtin_cpu_supports("avxvnni")) return add_by_avx_vnni(rows, panels, blocks, sums);
#endif
    add_pairs(rows, panels, blocks, sums);
}

}  // namespace proxconnect
