// Scales and biases as the kernels read them, in whole vectors.
#pragma once

#include "proxconnect.h"

namespace proxconnect {

// The output with a scale and a bias for every channel and 80 beyond, which are the first again. They lie in memory of
// this thread, until its next call.
Output with_all_channels(const Output& output, int64_t channels);

}  // namespace proxconnect
