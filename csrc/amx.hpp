// AMX, which multiplies 16 rows by 16 columns of 64 bytes in one instruction. AVX-512's kernels decide on it at run
// time, on Linux alone, which lends the tiles to processes that ask.
#pragma once

#include <cstdint>

namespace proxconnect {

// Whether this machine has AMX and the system lets us use it.
bool has_amx();

// Has has_amx() deny it, so that what does without is tested where there is AMX too.
void deny_amx(bool denies);

// How large the eight tiles are: 16 rows of 64 bytes, unless changed.
struct alignas(64) TileConfiguration {
    uint8_t palette = 1, first_row = 0, reserved[14] = {};
    uint16_t bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
    uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};

}  // namespace proxconnect
