// AVX-VNNI, which processors with AVX2 alone may have: vpdpbusd on vectors of eight sums.
#include "int8/byte_vectors.hpp"

namespace proxconnect {
namespace {

struct AvxVnni : QuadVectors<8> {
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
