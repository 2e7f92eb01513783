// The threads that share work.
#pragma once

#include "runtime/threads.hpp"

namespace proxconnect {

// Return true if this process has the threads of an OpenMP runtime, torch's, and they may be used: GCC's, or one with
// the same function names. Between two operations it looks for work on all cores, which would leave none to threads of
// our own. Nothing here links to an OpenMP.
bool has_openmp_threads();

// Call work(part), which must not throw, for each part below `count` on up to `threads` threads, including this one.
void share_with_openmp_threads(int64_t count, int32_t threads, const Part& work);
void share_with_own_threads(int64_t count, int32_t threads, const Part& work);

}  // namespace proxconnect
