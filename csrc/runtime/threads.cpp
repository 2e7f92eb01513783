#include "runtime/threads.hpp"

#include <algorithm>
#include <atomic>
#include <new>

#include "runtime/openmp_threads.hpp"
#include "runtime/own_threads.hpp"

namespace proxconnect {

void in_parallel(int64_t count, int64_t grain, int32_t threads, const Work& work) {
    if (count <= 0) return;
    const int64_t grains = (count + grain - 1) / grain;
    const int64_t parts = std::min<int64_t>(std::max(threads, 1), grains);
    if (parts == 1) return work(0, count);
    const int64_t part = (grains + parts - 1) / parts * grain;
    std::atomic<bool> has_failed{false};
    const Work guarded = [&](int64_t begin, int64_t end) noexcept {
        try {
            work(begin, end);
        } catch (...) {
            has_failed = true;
        }
    };
    const auto share = has_openmp_threads() ? share_with_openmp_threads : share_with_own_threads;
    share(count, part, static_cast<int32_t>(parts), guarded);
    if (has_failed) throw std::bad_alloc();
}

}  // namespace proxconnect
