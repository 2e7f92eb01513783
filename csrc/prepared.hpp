// What the kernels are given.
#pragma once

#include "kernels.hpp"

namespace proxconnect {

// Below so many words to xor it takes longer to wake a thread than to do them alone.
constexpr int64_t WORTH_A_THREAD = 1 << 17;

// The output with a scale and a bias for every channel and 80 beyond, which are the first again, so that whole vectors of
// them may be read. They lie in memory of this thread, until its next call.
Output with_all_channels(const Output& output, int64_t channels);

}  // namespace proxconnect
