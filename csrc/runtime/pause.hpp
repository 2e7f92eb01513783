// A moment in which a thread that looks for something lets others of its core work.
#pragma once

namespace proxconnect {
namespace {

inline void pause() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
}

}  // namespace
}  // namespace proxconnect
