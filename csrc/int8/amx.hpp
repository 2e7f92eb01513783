// Products of bytes with bytes by AMX, of which nothing may be called without has_amx().
#pragma once

#include <cstdint>

#include "int8/kernels.hpp"

namespace proxconnect {

// Makes the sums of `count` rows, a multiple of 16, with up to four blocks of the weight.
void multiply_by_amx(const ByteRows& rows, int64_t count, const int8_t* panels, int64_t blocks, int32_t* sums);

// Whether tiles stay configured from call to call in this thread, which takes about as long as the products of a tile.
void hold_tiles(bool holds);

}  // namespace proxconnect
