// Products of bytes by AMX, which multiplies 16 rows by 16 columns of 64 bytes in one instruction. AVX-512's kernels
// decide on it at run time, on Linux alone, which lends the tiles to processes that ask.
#pragma once

#include <cstdint>

namespace proxconnect {

// Whether this machine has AMX and the system lets us use it.
bool has_amx();

}  // namespace proxconnect
