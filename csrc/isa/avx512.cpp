// AVX-512's kernels, which count bits, and AMX's: the same but for products of signs by tiles where that is worth it.
#include "isa/avx512.hpp"

#include "binary/amx.hpp"
#include "binary/images.hpp"
#include "binary/thin_conv.hpp"
#include "binary/word_conv.hpp"
#include "epilogue/max_pool.hpp"
#include "quantizer/quantizer.hpp"

namespace proxconnect {
namespace {

struct Avx512Floats : Lanes<16> {
    static Floats fma(Floats a, Floats b, Floats c) { return _mm512_fmadd_ps(a, b, c); }

    static Floats at_most(Floats v, float bound) { return _mm512_min_ps(all(bound), v); }  // v where it is NaN

    static Floats inverse(Floats v) {  // to an ulp
        const Floats near = _mm512_rcp14_ps(v);
        return fma(near, fma(-v, near, all(1.0f)), near);
    }
};

void linear_by_tiles(const uint64_t* rows, const uint8_t* nan, const uint64_t* panels, int64_t m, int64_t entries,
                     const Outputs& outputs, int64_t first, int64_t last) {
    if (linear_by_amx(rows, nan, panels, m, entries, outputs, first, last)) return;
    binary_linear<Avx512>(rows, nan, panels, m, entries, outputs, first, last);
}

void conv_by_tiles(const PackedImage& image, const uint64_t* panels, const Geometry& g, const Outputs& outputs,
                   const Scratch& scratch, int64_t begin, int64_t end) {
    if (conv_by_amx(image, panels, g, outputs, begin, end)) return;
    binary_conv<Avx512>(image, panels, g, outputs, scratch, begin, end);
}

constexpr Kernels WITHOUT_TILES = {
    pack_row<Avx512>,      binary_linear<Avx512>, pack_image<Avx512>, binary_conv<Avx512>,
    spread_weight<Avx512>, spread_image<Avx512>,  thin_conv<Avx512>, finish_floats<Avx512>, pool_row<Avx512>,
    quantize<Avx512Floats>, slope<Avx512Floats>,
};

constexpr Kernels with_tiles() {
    Kernels kernels = WITHOUT_TILES;
    kernels.binary_linear = linear_by_tiles, kernels.binary_conv = conv_by_tiles;
    return kernels;
}

}  // namespace

const Kernels avx512_kernels = WITHOUT_TILES, amx_kernels = with_tiles();

}  // namespace proxconnect
