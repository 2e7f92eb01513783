#include "isa/amx.hpp"

#if defined(PROXCONNECT_EMULATED_TILES)

namespace proxconnect {

bool has_amx() { return true; }
bool has_bfloat_tiles() { return true; }

}  // namespace proxconnect

#elif defined(PROXCONNECT_HAS_TILES)

#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace proxconnect {
namespace {

// Bits of the processor's extended features: AMX's are 22 for bfloat16, 24 for tiles and 25 for bytes.
bool has_feature(int bit) {
    unsigned a, b, c, d;
    return __get_cpuid_count(7, 0, &a, &b, &c, &d) != 0 && (d >> bit & 1) != 0;
}

bool ask_for_tiles() {
    constexpr long REQUEST = 0x1023, TILE_DATA = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
    return has_feature(24) && has_feature(25) && syscall(SYS_arch_prctl, REQUEST, TILE_DATA) == 0;
}

}  // namespace

bool has_amx() {
    static const bool has = ask_for_tiles();
    return has;
}

bool has_bfloat_tiles() {
    static const bool has = has_feature(22);
    return has;
}

}  // namespace proxconnect

#else

namespace proxconnect {

bool has_amx() { return false; }
bool has_bfloat_tiles() { return false; }

}  // namespace proxconnect

#endif
