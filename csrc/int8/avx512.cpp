// AVX-512. VNNI multiplies four pairs of bytes for each output in one instruction.
#include <immintrin.h>

#include "int8/byte_vectors.hpp"

namespace proxconnect {
namespace {

struct Vnni {
    using Vector = __m512i;
    static constexpr int64_t vector_outputs = 16;
    static constexpr int fours = 1, rows = 6;

    static Vector first_sums(const void*) { return _mm512_setzero_si512(); }
    static Vector load(const void* from) { return _mm512_loadu_si512(from); }
    static void store(void* to, Vector v) { _mm512_storeu_si512(to, v); }

    static Vector entries(const uint8_t* from) {
        int32_t four;
        std::memcpy(&four, from, sizeof four);
        return _mm512_set1_epi32(four);
    }

    // With an intrinsic, GCC 12 keeps the sums in memory.
    template <int>
    static Vector add_products(Vector sums, Vector x, Vector weight) {
        asm("vpdpbusd %2, %1, %0" : "+v"(sums) : "v"(x), "v"(weight));
        return sums;
    }
};

}  // namespace

void add_by_avx512(const ByteRows& rows, const int8_t* panels, int64_t blocks, int32_t* sums) {
    switch (blocks) {
        case 1: return add_rows<Vnni, 1>(rows, panels, sums);
        case 2: return add_rows<Vnni, 2>(rows, panels, sums);
        case 3: return add_rows<Vnni, 3>(rows, panels, sums);
        default: return add_rows<Vnni, BLOCKS>(rows, panels, sums);
    }
}

}  // namespace proxconnect
