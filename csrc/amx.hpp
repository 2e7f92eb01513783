// Products of bytes by AMX, which multiplies 16 rows by 16 columns of 64 bytes in one instruction. AVX-512's kernels
// decide on it at run time, on Linux alone, which lends the tiles to processes that ask.
#pragma once

#include <cstdint>

namespace proxconnect {

// Whether this machine has AMX and the system lets us use it.
bool has_amx();

// Adds to sums of `rows` rows, a multiple of 16, and 64 outputs what so many words of 64 entries give. Rows of x are
// `stride` bytes apart; the weight is (words·16, 64, 4) bytes without a sign, four entries of every output together.
void add_by_amx(const int8_t* x, int64_t rows, int64_t stride, const uint8_t* weight, int64_t words, int32_t* sums);

}  // namespace proxconnect
