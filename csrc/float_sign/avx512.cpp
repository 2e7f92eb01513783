// AVX-512. vpermps looks up one of sixteen floats for each lane, and VNNI multiplies bytes.
#include "float_sign/byte_products.hpp"
#include "float_sign/register_tables.hpp"

namespace proxconnect {
namespace {

struct Permuted {
    using Vector = __m512;
    using Bits = __m512i;
    static constexpr int64_t lanes = 16, groups = 8;
    static constexpr int rows = 6, vectors = 4;

    static Vector load(const float* from) { return _mm512_loadu_ps(from); }
    static void store(float* to, Vector v) { _mm512_storeu_ps(to, v); }
    // With two intrinsics, GCC 12 looks up all entries first, which are more than there are registers, and adds them
    // later.
    static Vector add_entries(Vector sum, Vector table, Bits bits) {
        Vector entries;
        asm("vpermps %2, %3, %1\n\tvaddps %1, %0, %0" : "+v"(sum), "=&v"(entries) : "v"(table), "v"(bits));
        return sum;
    }

    static Bits next(Bits bits) { return _mm512_srli_epi32(bits, 4); }

    static Bits load_bits(const uint64_t* const* panels, int64_t half) {
        const int64_t word = half / 2 * PANEL;
        return halves_of(_mm512_loadu_si512(panels[0] + word), _mm512_loadu_si512(panels[1] + word), half % 2);
    }

    // Lanes whose number has the bit add, others subtract.
    static __m512 sign_of(__mmask16 lanes) {
        return _mm512_mask_blend_ps(lanes, _mm512_set1_ps(-1), _mm512_set1_ps(1));
    }

    static void make_tables(const float* x, float* to, int64_t step) {
        const __m512 a = sign_of(0xaaaa), b = sign_of(0xcccc), c = sign_of(0xf0f0), d = sign_of(0xff00);
        for (int64_t g = 0; g < groups; ++g, x += 4, to += step) {
            const __m512 ab = _mm512_fmadd_ps(b, _mm512_set1_ps(x[1]), _mm512_mul_ps(a, _mm512_set1_ps(x[0])));
            store(to, _mm512_fmadd_ps(d, _mm512_set1_ps(x[3]), _mm512_fmadd_ps(c, _mm512_set1_ps(x[2]), ab)));
        }
    }
};

void multiply(const FloatRows& rows, const FloatOutputs& outputs) {
    rows.rounds ? ByteProducts::multiply(with_quanta(rows), outputs)
                : multiply_by_register_tables<Permuted>(rows, outputs);
    take_steps(avx512_vnni_kernels, rows.count, outputs);
}

}  // namespace

const WeightOnlyKernels avx512_weight_only = {multiply, largest};

}  // namespace proxconnect
