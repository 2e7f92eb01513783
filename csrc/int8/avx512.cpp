// AVX-512. VNNI multiplies four pairs of bytes for each output in one instruction.
#include "int8/byte_vectors.hpp"

namespace proxconnect {
namespace {

struct Vnni : QuadVectors<16> {
    // With an intrinsic, GCC 12 keeps the sums in memory.
    template <int>
    static Vector add_products(Vector sums, Vector x, Vector weight) {
        asm("vpdpbusd %2, %1, %0" : "+v"(sums) : "v"(x), "v"(weight));
        return sums;
    }
};

}  // namespace

void add_by_avx512(const ByteRows& rows, const int8_t* panels, int64_t blocks, int32_t* sums) {
    with_constant<BLOCKS>(blocks, [&](auto count) { add_rows<Vnni, count>(rows, panels, sums); });
}

}  // namespace proxconnect
