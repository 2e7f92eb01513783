#include "amx.hpp"

#include <atomic>

#if defined(__linux__) && defined(__AMX_INT8__)

#include <cpuid.h>
#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace proxconnect {
namespace {

constexpr int64_t OUTPUTS = 64, TILE = 16;

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

void add_by_amx(const int8_t* x, int64_t rows, int64_t stride, const uint8_t* weight, int64_t words, int32_t* sums) {
    const TileConfiguration configuration;
    _tile_loadconfig(&configuration);
    constexpr int64_t PITCH = OUTPUTS * sizeof(int32_t);  // of sums, and of four entries of the weight
    for (int64_t row = 0; row < rows; row += TILE, x += TILE * stride, sums += TILE * OUTPUTS) {
        _tile_loadd(0, sums, PITCH);
        _tile_loadd(1, sums + 16, PITCH);
        _tile_loadd(2, sums + 32, PITCH);
        _tile_loadd(3, sums + 48, PITCH);
        for (int64_t j = 0; j < words; ++j) {
            const uint8_t* const of_word = weight + j * 16 * PITCH;
            _tile_loadd(4, x + j * 64, stride);
            _tile_loadd(5, of_word, PITCH);
            _tile_dpbsud(0, 4, 5);
            _tile_loadd(6, of_word + 64, PITCH);
            _tile_dpbsud(1, 4, 6);
            _tile_loadd(5, of_word + 128, PITCH);
            _tile_dpbsud(2, 4, 5);
            _tile_loadd(6, of_word + 192, PITCH);
            _tile_dpbsud(3, 4, 6);
        }
        _tile_stored(0, sums, PITCH);
        _tile_stored(1, sums + 16, PITCH);
        _tile_stored(2, sums + 32, PITCH);
        _tile_stored(3, sums + 48, PITCH);
    }
    _tile_release();
}

}  // namespace proxconnect

#else

namespace proxconnect {

bool has_amx() { return false; }
void deny_amx(bool) {}
void add_by_amx(const int8_t*, int64_t, int64_t, const uint8_t*, int64_t, int32_t*) {}

}  // namespace proxconnect

#endif
