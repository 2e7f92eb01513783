// Denormal numbers, which make each x86 operation a hundred times slower.
#pragma once

#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

namespace proxconnect {
namespace {

// Flushes results of this thread that are too small to be normal to 0 for its lifetime, if the processor can.
class Flush {
  public:
#if defined(__x86_64__)
    explicit Flush(bool is_on) : before(_mm_getcsr()) {
        if (is_on) _mm_setcsr(before | _MM_FLUSH_ZERO_ON);
    }
    ~Flush() { _mm_setcsr(before); }

  private:
    unsigned before;
#else
    explicit Flush(bool) {}
#endif
};

// Replace a denormal number by the least normal number, with its sign.
template <class I> inline typename I::Floats normal(typename I::Floats x) {
    using Words = typename I::Words;
    const Words bits = (Words)x, least = Words{} + 0x00800000u;
    const Words is_denormal = (Words)((bits & 0x7fffffffu) - 1u < least - 1u);  // 0 is none
    return (typename I::Floats)((bits & ~is_denormal) | (is_denormal & ((bits & 0x80000000u) | least)));
}

// Replace a denormal number by 0, with its sign.
template <class I> inline typename I::Floats normal_or_0(typename I::Floats x) {
    using Words = typename I::Words;
    const Words bits = (Words)x, magnitude = bits & 0x7fffffffu;
    const Words is_normal = (Words)(magnitude >= Words{} + 0x00800000u);
    return (typename I::Floats)(bits & (is_normal | 0x80000000u));
}

}  // namespace
}  // namespace proxconnect
