#include "runtime/threads.hpp"

#include <algorithm>
#include <atomic>
#include <new>

#include "runtime/thread_pools.hpp"

namespace proxconnect {

void in_parallel(int64_t count, int64_t grain, int32_t threads, const Work& work) {
    if (count <= 0) return;
    const int64_t grains = (count + grain - 1) / grain, parts = std::min<int64_t>(std::max(threads, 1), grains);
    if (parts == 1) return work(0, count);
    in_parts(parts, threads, [&](int64_t part) {
        work(grains * part / parts * grain, std::min(count, grains * (part + 1) / parts * grain));
    });
}

void in_parts(int64_t count, int32_t threads, const Part& work) {
    if (count == 1) return work(0);
    std::atomic<bool> has_failed{false};
    const Part guarded = [&](int64_t part) noexcept {
        try {
            work(part);
        } catch (...) {
            has_failed = true;
        }
    };
    const auto share = has_openmp_threads() ? share_with_openmp_threads : share_with_own_threads;
    share(count, static_cast<int32_t>(std::min<int64_t>(threads, count)), guarded);
    if (has_failed) throw std::bad_alloc();
}

}  // namespace proxconnect
