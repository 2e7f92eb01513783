// Scales and biases in whole vectors, as the kernels read them.
#pragma once

#include "proxconnect.h"

namespace proxconnect {

// Return the output, or that of an affine, with a scale and a bias for every channel, and 80 more that repeat the first.
// They lie in memory of this thread until its next call.
Output with_all_channels(const Output& output, int64_t channels);
Output with_all_channels(const Affine& affine, int64_t channels);

}  // namespace proxconnect
