// AVX-VNNI, which processors with AVX2 alone may have: vpdpbusd on vectors of eight sums.
#include <immintrin.h>

#include "int8/byte_vectors.hpp"

namespace proxconnect {
namespace {

struct AvxVnni {
    using Vector = __m256i;
    static constexpr int64_t vector_outputs = 8;
    static constexpr int fours = 1, rows = 6;

    static Vector first_sums(const void*) { return _mm256_setzero_si256(); }
    static Vector load(const void* from) { return _mm256_loadu_si256(static_cast<const __m256i*>(from)); }
    static void store(void* to, Vector v) { _mm256_storeu_si256(static_cast<__m256i*>(to), v); }

    static Vector entries(const uint8_t* from) {
        int32_t four;
        std::memcpy(&four, from, sizeof four);
        return _mm256_set1_epi32(four);
    }

    // With an intrinsic, GCC 12 keeps the sums in memory.
    template <int>
    static Vector add_products(Vector sums, Vector x, Vector weight) {
        asm("%{vex%} vpdpbusd %2, %1, %0" : "+x"(sums) : "x"(x), "x"(weight));
        return sums;
    }
};

}  // namespace

void add_by_avx_vnni(const ByteRows& rows, const int8_t* panels, int64_t blocks, int32_t* sums) {
    add_by_block<AvxVnni>(rows, panels, blocks, sums);
}

}  // namespace proxconnect
