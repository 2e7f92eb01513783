// Threads of our own, for processes without OpenMP threads.
#pragma once

#include "runtime/threads.hpp"

namespace proxconnect {

// Call work(part), which must not throw, for each part below `count` on up to `threads` threads, including this one.
void share_with_own_threads(int64_t count, int32_t threads, const Part& work);

}  // namespace proxconnect
