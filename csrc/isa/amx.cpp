#include "isa/amx.hpp"

#include "float_conv/digits.hpp"
#include "int8/kernels.hpp"
#include "isa/tiles.hpp"

#if !defined(PROXCONNECT_EMULATED_TILES)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace proxconnect {
namespace {

#if defined(PROXCONNECT_EMULATED_TILES)
bool ask_for_tiles() { return true; }
bool has_bfloat_tiles() { return true; }
#else
// Bits of the processor's extended features: AMX's are 22 for bfloat16, 24 for tiles and 25 for bytes.
bool has_feature(int bit) {
    unsigned a, b, c, d;
    return __get_cpuid_count(7, 0, &a, &b, &c, &d) != 0 && (d >> bit & 1) != 0;
}

bool ask_for_tiles() {
    constexpr long REQUEST = 0x1023, TILE_DATA = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
    return has_feature(24) && has_feature(25) && syscall(SYS_arch_prctl, REQUEST, TILE_DATA) == 0;
}

bool has_bfloat_tiles() { return has_feature(22); }
#endif

Kernels with_tiles(Kernels kernels) {
    static Int8Kernels int8 = *kernels.int8;
    int8.add = add_by_tiles, int8.hold = hold_tiles;
    kernels.binary_linear = linear_by_amx, kernels.binary_conv = conv_by_amx;
    kernels.weight_only = &amx_weight_only, kernels.int8 = &int8, kernels.digits = &digit_kernels;
    if (has_bfloat_tiles()) kernels.attention = &amx_attention;
    return kernels;
}

thread_local int64_t configured = 0;  // the `fours` of this thread's tiles; 0 if they are not configured
thread_local int64_t holders = 0;

}  // namespace

bool has_amx() {
    static const bool has = ask_for_tiles();
    return has;
}

const Kernels* amx_kernels() {
    static const Kernels kernels = with_tiles(avx512_kernels);
    return &kernels;
}

ConfiguredTiles::ConfiguredTiles(int64_t fours) {
    hold_tiles(true);
    if (configured == fours) return;
    TileConfiguration configuration;
    for (const int tile : ROW_TILES) configuration.bytes[tile] = static_cast<uint16_t>(4 * fours);
    for (const int tile : COLUMN_TILES) configuration.rows[tile] = static_cast<uint8_t>(fours);
    configure_tiles(configuration);
    configured = fours;
}

ConfiguredTiles::~ConfiguredTiles() { hold_tiles(false); }

void hold_tiles(bool holds) {
    holders += holds ? 1 : -1;
    if (holders > 0 || configured == 0) return;
    release_tiles();
    configured = 0;
}

}  // namespace proxconnect
