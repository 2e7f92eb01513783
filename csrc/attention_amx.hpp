// Attention by products of bfloat16 in AMX.
#pragma once

#include "attention.hpp"

namespace proxconnect {

// Whether this machine has AMX with bfloat16, and the system lets us use it.
bool can_attend_by_amx();

// The answers of bands [first, last); false, with some of them unwritten, where an entry is too large to be summed.
bool attend_by_amx(const Heads& heads, int64_t first, int64_t last);

}  // namespace proxconnect
