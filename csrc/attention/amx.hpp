// Attention by products of bfloat16 in AMX.
#pragma once

#include "attention/heads.hpp"

namespace proxconnect {

bool attend_by_amx(const Heads& heads, int64_t first, int64_t last);  // Kernels::attend

}  // namespace proxconnect
