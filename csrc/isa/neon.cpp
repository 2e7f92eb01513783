// NEON, which every 64-bit ARM has. vcnt counts the bits of each byte.
#include <arm_neon.h>

#include "int8/sign_panels.hpp"
#include "isa/table.hpp"

namespace proxconnect {
namespace {

struct Neon : ByteCounting<4> {
    using Vector = uint64x2_t;
    using Count = uint8x16_t;  // a count in each byte
    using Tables = NoTables;
    static constexpr int lanes = 2, rows = 4;

    static Vector load(const void* from) { return vreinterpretq_u64_u8(vld1q_u8(static_cast<const uint8_t*>(from))); }
    static Vector broadcast(uint64_t word) { return vdupq_n_u64(word); }
    static Count zero() { return vdupq_n_u8(0); }

    static Count add_differing(Count count, Vector a, Vector b) {
        return vaddq_u8(count, vcntq_u8(vreinterpretq_u8_u64(veorq_u64(a, b))));
    }

    static Vector totals(Count count) { return vpaddlq_u32(vpaddlq_u16(vpaddlq_u8(count))); }
    static Vector add(Vector a, Vector b) { return vaddq_u64(a, b); }
    static void store(void* to, Vector v) { vst1q_u8(static_cast<uint8_t*>(to), vreinterpretq_u8_u64(v)); }

    static Ints narrowed(Vector low, Vector high) {
        return (Ints)vcombine_u32(vmovn_u64(low), vmovn_u64(high));
    }

    static Ints widened(const uint8_t* from) {
        uint32_t bytes;
        std::memcpy(&bytes, from, sizeof bytes);
        return (Ints)vmovl_u16(vget_low_u16(vmovl_u8(vcreate_u8(bytes))));
    }

    static void spread(uint64_t bits, uint8_t* to) {
        const uint8x8_t places = vcreate_u8(0x8040201008040201u), one = vdup_n_u8(1);
        for (int i = 0; i < 8; ++i) {
            vst1_u8(to + 8 * i, vand_u8(vtst_u8(vdup_n_u8(static_cast<uint8_t>(bits >> (8 * i))), places), one));
        }
    }

    static Vector none() { return vdupq_n_u64(0); }
    static Vector add_bits(Vector count, Vector a, Vector b) {
        return vreinterpretq_u64_u8(vaddq_u8(vreinterpretq_u8_u64(count), vreinterpretq_u8_u64(veorq_u64(a, b))));
    }

    static Vector add_ones(Vector count, Vector a, Vector b) {
        return vreinterpretq_u64_u8(add_differing(vreinterpretq_u8_u64(count), a, b));
    }

    static void spread_panels(const uint64_t* words, int8_t* to) {
        const uint8x16_t rows = {0, 0, 0, 0, 8, 8, 8, 8, 16, 16, 16, 16, 24, 24, 24, 24};  // the first byte of each
        const uint8x16_t low = vreinterpretq_u8_u32(vdupq_n_u32(0x08040201)), high = vshlq_n_u8(low, 4);
        const auto put = [](uint8x16_t bits, int8_t* place) {
            vst1q_s8(place, vbslq_s8(bits, vdupq_n_s8(1), vdupq_n_s8(-1)));
        };
        for (int four = 0; four < 4; ++four, words += 4, to += 16) {  // rows
            const uint8x16x2_t all = {{vreinterpretq_u8_u64(load(words)), vreinterpretq_u8_u64(load(words + 2))}};
            for (uint8_t k = 0; k < 8; ++k) {
                const uint8x16_t bytes = vqtbl2q_u8(all, vaddq_u8(rows, vdupq_n_u8(k)));
                put(vtstq_u8(bytes, low), to + 2 * k * STEP);
                put(vtstq_u8(bytes, high), to + (2 * k + 1) * STEP);
            }
        }
    }

    static Floats fma(Floats a, Floats b, Floats c) {
        return (Floats)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b);
    }

    static uint32_t below(Words a, Words b) {
        static const uint32_t places[4] = {1, 2, 4, 8};
        return vaddvq_u32(vandq_u32(vcltq_u32((uint32x4_t)a, (uint32x4_t)b), vld1q_u32(places)));
    }

    static uint64_t signs(const float* x, bool& has_nan) {
        static const uint32_t places[4] = {1, 2, 4, 8};
        const uint32x4_t place = vld1q_u32(places);
        uint64_t word = 0;
        uint32x4_t known = vdupq_n_u32(~0u);
        for (int i = 0; i < 16; ++i) {
            const float32x4_t v = vld1q_f32(x + 4 * i);
            known = vandq_u32(known, vceqq_f32(v, v));
            word |= static_cast<uint64_t>(vaddvq_u32(vandq_u32(vcgeq_f32(v, vdupq_n_f32(0.0f)), place))) << (4 * i);
        }
        has_nan |= vminvq_u32(known) == 0;
        return word;
    }
};

}  // namespace

const Kernels neon_kernels = kernels_with<Neon, LanesOf<Neon>>(portable_weight_only, int8_with<Neon, add_bytes>);
#if defined(PROXCONNECT_DOT_PRODUCTS)
const Kernels dot_product_kernels = kernels_with<Neon, LanesOf<Neon>>(
    rounded_as_bytes, int8_with<Neon, add_by_dot_products>, nullptr, nullptr, spread_signs<Neon>);
#endif

}  // namespace proxconnect
