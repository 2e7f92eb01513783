// The threads of the OpenMP runtime that the process has already, which is torch's. While it waits for more, that looks
// for work on all cores, so that threads of our own would have none; nothing here is linked to any OpenMP.
#pragma once

#include "runtime/threads.hpp"

namespace proxconnect {

// Whether there is such a runtime whose threads we may use: GCC's, or one that answers by its names.
bool has_openmp_threads();

// Calls work(begin, end), which must not throw, for each part of [0, count) on up to `threads` of them, this one among
// them.
void share_with_openmp_threads(int64_t count, int64_t part, int32_t threads, const Work& work);

}  // namespace proxconnect
