// Work in phases that threads share, of which each begins when the one before has ended.
#pragma once

#include <atomic>
#include <cstdint>
#include <new>
#include <thread>

#include "runtime/pause.hpp"

namespace proxconnect {
namespace {

// Every thread goes through all COUNT phases. Any number of threads may come, and at any time, even after the work.
template <int COUNT>
class Phases {
  public:
    // Call work(part) for parts [0, count) of a phase that no thread has taken, and return when all are done.
    template <class Work>
    void share(int phase, int64_t count, const Work& work) {
        Phase& here = phases_[phase];
        for (int64_t part; (part = here.next++) < count; ++here.done) {
            if (!has_failed_) run(work, part);
        }
        for (int look = 0; here.done < count; ++look) look < LOOKS ? pause() : std::this_thread::yield();
    }

    // Throw if a part has thrown.
    void require_success() const {
        if (has_failed_) throw std::bad_alloc();
    }

  private:
    // How often a thread looks before it lends its processor to another.
    static constexpr int LOOKS = 20000;

    struct alignas(64) Phase {
        std::atomic<int64_t> next{0}, done{0};
    };

    template <class Work>
    void run(const Work& work, int64_t part) noexcept {
        try {
            work(part);
        } catch (...) {
            has_failed_ = true;
        }
    }

    Phase phases_[COUNT];
    std::atomic<bool> has_failed_{false};
};

}  // namespace
}  // namespace proxconnect
