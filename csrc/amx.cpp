#include "amx.hpp"

#include <atomic>

#if defined(__linux__) && defined(__AMX_INT8__)

#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace proxconnect {
namespace {

bool ask_for_tiles() {
    constexpr long REQUEST = 0x1023, TILE_DATA = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
    unsigned a, b, c, d;
    if (__get_cpuid_count(7, 0, &a, &b, &c, &d) == 0) return false;
    const bool has_tiles = d >> 24 & 1, has_bytes = d >> 25 & 1;
    return has_tiles && has_bytes && syscall(SYS_arch_prctl, REQUEST, TILE_DATA) == 0;
}

std::atomic<bool> is_denied{false};

}  // namespace

bool has_amx() {
    static const bool has = ask_for_tiles();
    return has && !is_denied;
}

void deny_amx(bool denies) { is_denied = denies; }

}  // namespace proxconnect

#else

namespace proxconnect {

bool has_amx() { return false; }
void deny_amx(bool) {}

}  // namespace proxconnect

#endif
