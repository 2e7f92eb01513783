#include "lent.hpp"

#include <algorithm>
#include <atomic>

#include "posix.hpp"

namespace proxconnect {
namespace {

// Has so many threads call a function with the same argument, and waits for all.
using Start = void (*)(void (*function)(void*), void* argument, unsigned threads, unsigned flags);

Start start() {
    static const Start found = reinterpret_cast<Start>(dlsym(RTLD_DEFAULT, "GOMP_parallel"));
    return found;
}

const pid_t owner = getpid();  // of this library: a child of fork() has none of its parent's threads

struct Parts {
    std::atomic<int64_t> next;
    int64_t count, part;
    const Work& work;
};

void take(void* argument) {
    Parts& parts = *static_cast<Parts*>(argument);
    for (int64_t begin; (begin = parts.next.fetch_add(parts.part)) < parts.count;) {
        parts.work(begin, std::min(begin + parts.part, parts.count));
    }
}

}  // namespace

bool has_lent_threads() {
    return start() != nullptr && getpid() == owner;
}

void share_with_lent_threads(int64_t count, int64_t part, int32_t threads, const Work& work) {
    Parts parts{{0}, count, part, work};
    start()(take, &parts, static_cast<unsigned>(threads), 0);
}

}  // namespace proxconnect
