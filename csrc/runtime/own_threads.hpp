// Threads of our own, for processes without OpenMP threads.
#pragma once

#include "runtime/threads.hpp"

namespace proxconnect {

// Call work(begin, end), which must not throw, for each part of [0, count) on up to `threads` threads, including this
// one.
void share_with_own_threads(int64_t count, int64_t part, int32_t threads, const Work& work);

}  // namespace proxconnect
