// AVX-512: vpermps takes one of sixteen floats for each lane; VNNI multiplies bytes.
#include "byte_products.hpp"
#include "register_tables.hpp"

namespace proxconnect {
namespace {

struct Avx512 {
    using Vector = __m512;
    using Bits = __m512i;
    static constexpr int64_t lanes = 16, groups = 8;
    static constexpr int rows = 6, vectors = 4;

    static Vector load(const float* from) { return _mm512_loadu_ps(from); }
    static void store(float* to, Vector v) { _mm512_storeu_ps(to, v); }
    // As two intrinsics GCC 12 looks up all entries first, more than there are registers for, and adds them afterwards.
    static Vector add_entries(Vector sum, Vector table, Bits bits) {
        Vector entries;
        asm("vpermps %2, %3, %1\n\tvaddps %1, %0, %0" : "+v"(sum), "=&v"(entries) : "v"(table), "v"(bits));
        return sum;
    }

    static Bits next(Bits bits) { return _mm512_srli_epi32(bits, 4); }

    static __m512i every_second(int64_t from) {
        const __m512i even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
        return _mm512_add_epi32(even, _mm512_set1_epi32(static_cast<int>(from)));
    }

    static Bits load_bits(const uint64_t* const* panels, int64_t half) {
        const int64_t word = half / 2 * ROWS_OF_PANEL;
        const __m512i a = _mm512_loadu_si512(panels[0] + word), b = _mm512_loadu_si512(panels[1] + word);
        return _mm512_permutex2var_epi32(a, every_second(half % 2), b);
    }

    // The four sums of each pair of 32 entries, those of pair 4i + j at 16j + 4i.
    static void add_pairs(const float* x, float* sums) {
        const __m512 low = load(x), high = load(x + 16), minus = _mm512_set1_ps(-0.0f);
        const __m512 a = _mm512_permutex2var_ps(low, every_second(0), high);
        const __m512 b = _mm512_permutex2var_ps(low, every_second(1), high);
        const __m512 both = _mm512_add_ps(a, b), second = _mm512_sub_ps(b, a);
        const __m512 neither = _mm512_xor_ps(both, minus), first = _mm512_xor_ps(second, minus);
        const __m512d p = _mm512_castps_pd(_mm512_unpacklo_ps(neither, first));
        const __m512d q = _mm512_castps_pd(_mm512_unpackhi_ps(neither, first));
        const __m512d r = _mm512_castps_pd(_mm512_unpacklo_ps(second, both));
        const __m512d s = _mm512_castps_pd(_mm512_unpackhi_ps(second, both));
        store(sums, _mm512_castpd_ps(_mm512_unpacklo_pd(p, r)));
        store(sums + 16, _mm512_castpd_ps(_mm512_unpackhi_pd(p, r)));
        store(sums + 32, _mm512_castpd_ps(_mm512_unpacklo_pd(q, s)));
        store(sums + 48, _mm512_castpd_ps(_mm512_unpackhi_pd(q, s)));
    }

    static void make_tables(const float* x, float* to, int64_t step) {
        const __m512i each = _mm512_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3);
        float sums[64];
        add_pairs(x, sums);
        for (int64_t g = 0; g < groups; ++g, to += step) {
            const float* const pair = sums + g / 2 * 4 + g % 2 * 32;
            const __m512 low = _mm512_broadcast_f32x4(_mm_loadu_ps(pair));
            const __m512 high = _mm512_broadcast_f32x4(_mm_loadu_ps(pair + 16));
            store(to, _mm512_add_ps(low, _mm512_permutevar_ps(high, each)));
        }
    }
};

void multiply(const FloatRows& rows, const Outputs& outputs) {
    rows.quantum == nullptr ? multiply_by_register_tables<Avx512>(rows, outputs) : ByteProducts::multiply(rows, outputs);
}

}  // namespace

const WeightOnlyKernels avx512_weight_only = {multiply, largest};

}  // namespace proxconnect
