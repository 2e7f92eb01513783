// Products of rows of floats with a weight of signs by AMX, in one byte for each entry where rows are rounded, else in
// three: an entry counts as the nearest whole number of steps of 2^-22 of the power of two at or below its row's
// largest, so that sums of bytes are exact. Rows that have no such step go by tables.
#pragma once

#include "float_sign/kernels.hpp"

namespace proxconnect {

// Whether tiles multiply these rows faster than other instructions.
bool is_for_amx(const FloatRows& rows);

// The outputs, with their steps, of rows that have a step; unfit[r] is set for those that have none, and 0 for others.
// Returns whether there is one.
bool multiply_by_amx(const FloatRows& rows, const FloatOutputs& outputs, uint8_t* unfit);

}  // namespace proxconnect
