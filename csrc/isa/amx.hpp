// AMX multiplies 16 rows by 16 columns of 64 bytes in one instruction. Only Linux lends its tiles, to processes that ask;
// elsewhere they may be emulated. Other files of AMX are compiled only with PROXCONNECT_TILES, and run only if has_amx().
#pragma once

#include <cstdint>

#include "isa/kernels.hpp"

namespace proxconnect {

// Whether this machine has AMX and the system lets us use it.
bool has_amx();

// AVX-512's kernels, but for those that tiles do faster.
const Kernels* amx_kernels();

// Keeps the tiles of this thread configured: rows and columns of `fours` times four bytes, sums of 16 by 16. Fewer than
// 16 shorten the loads, which bound short products.
class ConfiguredTiles {
  public:
    explicit ConfiguredTiles(int64_t fours = 16);
    ConfiguredTiles(const ConfiguredTiles&) = delete;
    ~ConfiguredTiles();
};

// Begins or ends a time in which the tiles of this thread stay configured after the last ConfiguredTiles:
// configuring takes about as long as the products of a tile.
void hold_tiles(bool holds);

}  // namespace proxconnect
