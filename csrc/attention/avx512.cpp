// Attention by AVX-512.
#include "attention/float_band.hpp"
#include "isa/avx512.hpp"

namespace proxconnect {
namespace {

struct Registers : Avx512 {
    static constexpr int sums = 24, columns = 4;
};

}  // namespace

const AttentionKernel avx512_attention = {BAND, attend<Registers>};

}  // namespace proxconnect
