#include "runtime/thread_pools.hpp"

#include <atomic>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <thread>

#include "runtime/pause.hpp"
#include "runtime/posix.hpp"

namespace proxconnect {
namespace {

// How often a thread checks for work, or for its end, before it sleeps. Waking it costs more than a small product.
constexpr int LOOKS = 20000;

// Workers that share one piece of work at a time. They are never joined: a process ends without them.
class OwnThreads {
  public:
    void share(int64_t count, int32_t helpers, const Part& work) {
        std::lock_guard<std::mutex> turn(turn_);
        hire(helpers);
        bool anyone_sleeps;
        {
            std::lock_guard<std::mutex> lock(mutex_);
            work_ = &work, count_ = left_ = count, next_ = 0;
            ++round_;
            anyone_sleeps = sleeping_ > 0;
        }
        if (anyone_sleeps) wake_.notify_all();
        while (do_one()) {
        }
        for (int look = 0; look < LOOKS && left_ != 0; ++look) pause();
        std::unique_lock<std::mutex> lock(mutex_);
        done_.wait(lock, [this] { return left_ == 0; });
        work_ = nullptr;
    }

  private:
    // Start as many as the system allows. With fewer, or none, the work is shared by fewer.
    void hire(int32_t helpers) try {
        for (; hired_ < helpers; ++hired_) std::thread([this] { serve(); }).detach();
    } catch (const std::exception&) {
    }

    void serve() {
        for (uint64_t seen = 0;;) {
            for (int look = 0; look < LOOKS && round_ == seen; ++look) pause();
            {
                std::unique_lock<std::mutex> lock(mutex_);
                ++sleeping_;
                wake_.wait(lock, [&] { return round_ != seen; });
                --sleeping_;
                seen = round_;
            }
            while (do_one()) {
            }
        }
    }

    bool do_one() {
        const Part* work;
        int64_t part;
        {
            std::lock_guard<std::mutex> lock(mutex_);
            if (work_ == nullptr || next_ >= count_) return false;
            work = work_, part = next_++;
        }
        (*work)(part);
        std::lock_guard<std::mutex> lock(mutex_);
        if (--left_ == 0) done_.notify_one();
        return true;
    }

    std::mutex turn_, mutex_;  // one piece of work at a time; all that follows
    std::condition_variable wake_, done_;
    const Part* work_ = nullptr;
    int64_t count_ = 0, next_ = 0;
    int32_t hired_ = 0, sleeping_ = 0;
    // Read without the lock: the number of unfinished parts, and of pieces of work so far.
    std::atomic<int64_t> left_{0};
    std::atomic<uint64_t> round_{0};
};

// A child of fork() has none of its parent's threads, so each process has its own.
OwnThreads& own_threads() {
    static std::mutex mutex;
    static OwnThreads* current = nullptr;
    static pid_t owner = 0;
    std::lock_guard<std::mutex> lock(mutex);
    if (current == nullptr || owner != getpid()) current = new OwnThreads, owner = getpid();
    return *current;
}

}  // namespace

void share_with_own_threads(int64_t count, int32_t threads, const Part& work) {
    own_threads().share(count, threads - 1, work);
}

}  // namespace proxconnect
