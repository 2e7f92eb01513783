// AMX multiplies 16 rows by 16 columns of 64 bytes in one instruction. Only Linux lends tiles to processes. Other files
// of AMX are compiled only with PROXCONNECT_TILES, and run only if has_amx(). Tiles may be emulated.
#pragma once

#include <cstdint>

#include "isa/kernels.hpp"

namespace proxconnect {

// Return true if this machine has AMX and the system lets this process use it.
bool has_amx();

// Return AVX-512's kernels, with those replaced that tiles do faster.
const Kernels* amx_kernels();

// The replacements of binary_linear and binary_conv.
void linear_by_amx(const SignRows& rows, const uint64_t* panels, const Outputs& outputs, int64_t first, int64_t last);
void conv_by_amx(const PackedImage& image, const uint64_t* panels, const Geometry& g, const Outputs& outputs,
                 const Scratch& scratch, int64_t begin, int64_t end);

// Keep the tiles of this thread configured: rows and columns of 4·`fours` bytes, sums of 16 by 16. Fewer than 16 make
// loads shorter, which bound short products.
class ConfiguredTiles {
  public:
    explicit ConfiguredTiles(int64_t fours = 16);
    ConfiguredTiles(const ConfiguredTiles&) = delete;
    ~ConfiguredTiles();
};

// Begin or end a time in which the tiles of this thread stay configured after the last ConfiguredTiles. Configuring
// takes about as long as the products of a tile.
void hold_tiles(bool holds);

}  // namespace proxconnect
