// The dot products of ARMv8.2, which multiply 16 pairs of signed bytes. Entries become q again, and sums begin with what
// 128 more would have added.
#include <arm_neon.h>

#include "int8/byte_vectors.hpp"

namespace proxconnect {
namespace {

struct DotProducts {
    using Vector = int32x4_t;
    static constexpr int64_t vector_outputs = 4;
    static constexpr int fours = 4, rows = 5;

    static Vector first_sums(const void* totals) { return load(totals); }
    static Vector load(const void* from) { return vld1q_s32(static_cast<const int32_t*>(from)); }
    static void store(void* to, Vector v) { vst1q_s32(static_cast<int32_t*>(to), v); }
    static uint8x16_t entries(const uint8_t* from) { return veorq_u8(vld1q_u8(from), vdupq_n_u8(128)); }

    template <int FOUR>
    static Vector add_products(Vector sums, uint8x16_t x, Vector weight) {
        return vdotq_laneq_s32(sums, vreinterpretq_s8_s32(weight), vreinterpretq_s8_u8(x), FOUR);
    }
};

}  // namespace

void add_by_dot_products(const ByteRows& rows, const int8_t* panels, int64_t blocks, int32_t* sums) {
    add_by_block<DotProducts>(rows, panels, blocks, sums);
}

}  // namespace proxconnect
