// Any machine, NEON included: vectors of 16 bytes.
#include "float_sign/row_tables.hpp"

#if defined(__aarch64__)
#include <arm_neon.h>
#endif

namespace proxconnect {
namespace {

struct Sixteen {
    typedef float Floats __attribute__((vector_size(16), may_alias));
    typedef uint16_t Halves __attribute__((vector_size(16), may_alias));

#if defined(__aarch64__)
    static void widen(const uint16_t* from, float (&to)[PANEL]) {
        for (int64_t i = 0; i < PANEL; i += 4) {
            vst1q_f32(to + i, vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(from + i))));
        }
    }
#else
    // No step makes a subnormal float, which a processor may flush to 0.
    static void widen(const uint16_t* from, float (&to)[PANEL]) {
        for (int64_t i = 0; i < PANEL; ++i) {
            constexpr uint32_t REBIAS = uint32_t{127 - 15} << 23, LEAST = 1u << 10, INFINITE = 31u << 10;
            const uint32_t sign = from[i] & 0x8000u, rest = from[i] & 0x7fffu;
            const float subnormal = static_cast<float>(rest) * 0x1p-24f;
            uint32_t bits;
            std::memcpy(&bits, &subnormal, sizeof bits);
            if (rest >= LEAST) bits = (rest << 13) + (rest < INFINITE ? REBIAS : 2 * REBIAS);
            bits |= sign << 16;
            std::memcpy(to + i, &bits, sizeof bits);
        }
    }
#endif
};

void multiply(const FloatRows& rows, const FloatOutputs& outputs) {
    multiply_by_row_tables<Sixteen>(with_quanta(rows), outputs);
    take_steps(portable_kernels, rows.count, outputs);
}

}  // namespace

const WeightOnlyKernels portable_weight_only = {multiply, largest};
#if defined(__aarch64__)
const WeightOnlyKernels rounded_as_bytes = {multiply, largest, nullptr, 1};
#endif

}  // namespace proxconnect
