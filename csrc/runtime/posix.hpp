// The POSIX functions that the kernels call, also for Windows.
#pragma once

#if defined(_WIN32)

namespace proxconnect {

using pid_t = int;
constexpr void* RTLD_DEFAULT = nullptr;

inline pid_t getpid() { return 0; }  // nothing forks, so that every call is in one process
inline void* dlsym(void*, const char*) { return nullptr; }  // torch's OpenMP is not looked for

}  // namespace proxconnect

#else

#include <dlfcn.h>
#include <unistd.h>

#endif
