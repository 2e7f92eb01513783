// Let allocations of every function of the C interface fail one at a time, on one thread and on several, with our own
// threads and those of GCC's OpenMP. The function must report it, and the next call must work.
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <initializer_list>
#include <new>
#include <thread>

#include <dlfcn.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runtime/thread_pools.hpp"
#include "runtime/threads.hpp"
#include "tests/test_calls.hpp"

namespace {

std::atomic<int64_t> left{-1};  // allocations until one fails; below 0 none does

void* allocated(size_t size, size_t alignment) {
    if (left >= 0 && left-- == 0) throw std::bad_alloc();
    constexpr size_t MOST = size_t{1} << 40;  // beyond it sanitizers end the process
    void* const memory = size > MOST ? nullptr : std::aligned_alloc(alignment, (size / alignment + 1) * alignment);
    if (memory == nullptr) throw std::bad_alloc();
    return memory;
}

}  // namespace

void* operator new(size_t size) { return allocated(size, alignof(std::max_align_t)); }
void* operator new(size_t size, std::align_val_t alignment) { return allocated(size, static_cast<size_t>(alignment)); }
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, size_t) noexcept { std::free(memory); }
void operator delete(void* memory, std::align_val_t) noexcept { std::free(memory); }
void operator delete(void* memory, size_t, std::align_val_t) noexcept { std::free(memory); }

namespace {

int failed_allocations = 0, failures = 0;

void require(bool holds, const char* what, int32_t isa, int32_t threads, int64_t allocation) {
    if (holds) return;
    ++failures;
    std::printf("isa %d, %d threads, allocation %lld fails: %s\n", isa, threads, (long long)allocation, what);
}

// Return true if allocation `number` of a call failed. The call comes from a new thread, which keeps no memory of
// others, and is repeated there. Threads that share its work keep memory, which a later call does not allocate again.
bool fails(const Call& call, int32_t isa, int32_t threads, int64_t number, const Floats& x, const Floats& expected) {
    Floats y(expected.size(), NAN), again = y;  // as before `expected`: not all is written of bfloat16
    bool has_failed = false;
    std::thread([&] {
        left = number;
        const int32_t status = call.run(x.data(), y.data(), threads);
        has_failed = left.exchange(-1) < 0;
        const bool is_right = status == DONE ? are_same(y, expected) : has_failed && status == OUT_OF_MEMORY;
        require(is_right, call.name, isa, threads, number);
        if (status == DONE) return;
        const bool works = call.run(x.data(), again.data(), threads) == DONE && are_same(again, expected);
        require(works, call.name, isa, threads, number);
    }).join();
    return has_failed;
}

// Test the first allocations one by one, then fewer and fewer. Later ones come from the same places for other rows.
int64_t next(int64_t number) { return number + 1 + number / 4; }

void check_allocations(int32_t isa, std::initializer_list<int32_t> numbers_of_threads) {
    const Shared shared;
    for (const Call& call : calls_of(isa, shared)) {
        const Floats x = drawn(call.inputs, 3);
        const Floats expected = call.answer(x, 1);
        for (const int32_t threads : numbers_of_threads) {
            int64_t number = 0;
            for (; fails(call, isa, threads, number, x, expected); number = next(number)) ++failed_allocations;
        }
    }
}

// Let three threads take a part each. One throws when all have begun.
void check_parts() {
    constexpr int32_t THREADS = 3;
    for (int64_t throwing = 0; throwing <= THREADS; ++throwing) {  // in the end none
        std::atomic<int> begun{0}, done{0};
        bool has_thrown = false;
        const auto part = [&](int64_t begin, int64_t) {
            const auto late = std::chrono::steady_clock::now() + std::chrono::seconds(20);
            for (++begun; begun < THREADS && std::chrono::steady_clock::now() < late;) std::this_thread::yield();
            if (begin == throwing) throw std::bad_alloc();
            ++done;
        };
        try {
            proxconnect::in_parallel(THREADS, 1, THREADS, part);
        } catch (const std::bad_alloc&) {
            has_thrown = true;
        }
        require(begun == THREADS, "and threads do not work side by side", -1, THREADS, throwing);
        require(has_thrown == (throwing < THREADS), "and nobody hears of it", -1, THREADS, throwing);
        require(done == THREADS - has_thrown, "and other parts are not done", -1, THREADS, throwing);
    }
}

int check(const char* whose, std::initializer_list<int32_t> numbers_of_threads) {
    check_parts();
    for (int32_t isa = PORTABLE; isa < 8; ++isa) {  // more numbers than there are sets
        if (px_supports(isa)) check_allocations(isa, numbers_of_threads);
    }
    require(failed_allocations > 100, "far fewer allocations than there are", -1, 0, failed_allocations);
    std::printf("threads %s: %d allocations failed, %d failures\n", whose, failed_allocations, failures);
    return failures != 0;
}

}  // namespace

int main() {
#if !defined(__SANITIZE_THREAD__)  // which does not know how that runtime waits
    dlopen("libgomp.so.1", RTLD_NOW | RTLD_GLOBAL);
#endif
    const pid_t child = fork();  // which may not use threads of OpenMP
    if (child == 0) std::exit(check("of our own", {1, 3}));
    int status = 0;
    if (waitpid(child, &status, 0) != child || status != 0) return 1;
    if (!proxconnect::has_openmp_threads()) return 0;
    return check("of OpenMP", {3});  // one shares nothing out, whosever the others are
}
