// Loops that the compiler unrolls.
#pragma once

#include <cstdint>
#include <utility>

#define ALWAYS_INLINE __attribute__((always_inline))

namespace proxconnect {
namespace {

// Call work(0), …, work(COUNT - 1) with constants. In plain loops GCC keeps arrays of vectors in memory.
template <class Work, int... I>
ALWAYS_INLINE inline void unrolled(Work work, std::integer_sequence<int, I...>) {
    (work(std::integral_constant<int, I>()), ...);
}

template <int COUNT, class Work>
ALWAYS_INLINE inline void unrolled(Work work) {
    unrolled(work, std::make_integer_sequence<int, COUNT>());
}

// Call work(count) with a constant, for a count from 1 to MOST, the likeliest.
template <int MOST, class Work>
ALWAYS_INLINE inline void with_constant(int64_t count, const Work& work) {
    unrolled<MOST>([&](auto i) ALWAYS_INLINE {
        if (count == MOST - i) work(std::integral_constant<int, MOST - i>());
    });
}

}  // namespace
}  // namespace proxconnect
