// Work shared out to threads.
#pragma once

#include <cstdint>
#include <functional>

namespace proxconnect {

using Work = std::function<void(int64_t, int64_t)>;

// Below so many words to xor, floats to add, or latents to quantize, waking a thread takes longer than doing it alone.
constexpr int64_t WORDS_WORTH_A_THREAD = 1 << 17, FLOATS_WORTH_A_THREAD = 1 << 21, LATENTS_WORTH_A_THREAD = 1 << 15;

// Calls work(begin, end) for parts of [0, count), whose borders are multiples of `grain`, on up to `threads` threads,
// this one among them, and waits for all.
void in_parallel(int64_t count, int64_t grain, int32_t threads, const Work& work);

}  // namespace proxconnect
