#include "runtime/thread_pools.hpp"

#include <atomic>
#include <cstdio>
#include <cstring>

#include "runtime/posix.hpp"

namespace proxconnect {
namespace {

// Let `threads` threads call a function with the same argument, and wait for all.
using Start = void (*)(void (*function)(void*), void* argument, unsigned threads, unsigned flags);

Start start() {
    static const Start found = reinterpret_cast<Start>(dlsym(RTLD_DEFAULT, "GOMP_parallel"));
    return found;
}

// Return true if this process is a child of fork() that has not called exec. If its parent had started threads of GCC's
// runtime, the runtime waits for them in the child forever, and nothing tells whether it had. Linux marks such children
// in field 9 of /proc/self/stat. A process that cannot read its mark counts as forked. Other systems have Clang's
// runtime, which starts new threads in a child.
bool is_forked() {
#if defined(__linux__)
    constexpr unsigned FORKED_NO_EXEC = 0x40;  // PF_FORKNOEXEC
    char text[512] = {};
    std::FILE* const file = std::fopen("/proc/self/stat", "re");
    if (file == nullptr) return true;
    std::fread(text, 1, sizeof text - 1, file);
    std::fclose(file);
    const char* const name_end = std::strrchr(text, ')');  // the name may hold anything
    unsigned flags = 0;
    if (name_end == nullptr || std::sscanf(name_end + 1, " %*c %*d %*d %*d %*d %*d %u", &flags) != 1) return true;
    return (flags & FORKED_NO_EXEC) != 0;
#else
    return false;
#endif
}

// The process that loaded this library, or 0 if it was forked. A later child has another id.
const pid_t owner = is_forked() ? 0 : getpid();

struct Parts {
    std::atomic<int64_t> next;
    int64_t count;
    const Part& work;
};

void take(void* argument) {
    Parts& parts = *static_cast<Parts*>(argument);
    for (int64_t part; (part = parts.next++) < parts.count;) parts.work(part);
}

}  // namespace

bool has_openmp_threads() {
    return start() != nullptr && getpid() == owner;
}

void share_with_openmp_threads(int64_t count, int32_t threads, const Part& work) {
    Parts parts{{0}, count, work};
    start()(take, &parts, static_cast<unsigned>(threads), 0);
}

}  // namespace proxconnect
