// Attention by products of bfloat16 in AMX, of which nothing may be called without has_bfloat_tiles().
#pragma once

#include "attention/heads.hpp"

namespace proxconnect {

// The answers of bands [first, last); false, with some of them unwritten, where an entry is too large to be summed.
bool attend_by_amx(const Heads& heads, int64_t first, int64_t last);

}  // namespace proxconnect
