// Attention by AVX2.
#include <immintrin.h>

#include "attention/float_band.hpp"

namespace proxconnect {
namespace {

struct Avx2 {
    static constexpr int outputs = 8, sums = 12, columns = 2;

    static Floats<Avx2> fma(Floats<Avx2> a, Floats<Avx2> b, Floats<Avx2> c) { return _mm256_fmadd_ps(a, b, c); }
};

}  // namespace

const AttentionKernel avx2_attention = {BAND, attend<Avx2>};

}  // namespace proxconnect
