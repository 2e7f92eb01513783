// Work that is shared by threads.
#pragma once

#include <cstdint>
#include <functional>

namespace proxconnect {

using Work = std::function<void(int64_t, int64_t)>;
using Part = std::function<void(int64_t)>;

// Below this number of words to xor, floats to add, or latents to quantize, waking a thread takes longer than working
// alone.
constexpr int64_t WORDS_WORTH_A_THREAD = 1 << 17, FLOATS_WORTH_A_THREAD = 1 << 21, LATENTS_WORTH_A_THREAD = 1 << 15;

// Return `threads`, or 1 if the work is too little. `work` is a double, because absurd sizes would overflow an integer:
// write 1.0 * rows * outputs.
inline int32_t threads_for(double work, int64_t worth_a_thread, int32_t threads) {
    return work < static_cast<double>(worth_a_thread) ? 1 : threads;
}

// Call work(begin, end) for parts of [0, count), whose borders are multiples of `grain`, on up to `threads` threads,
// including this one, and wait for all. If one of them throws, throw std::bad_alloc after that.
void in_parallel(int64_t count, int64_t grain, int32_t threads, const Work& work);

// Call work(part) for parts [0, count), one at a time on each of up to `threads` threads. The rest is as above.
void in_parts(int64_t count, int32_t threads, const Part& work);

}  // namespace proxconnect
