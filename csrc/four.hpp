// Vectors of four floats, which GCC and Clang make of what a machine has, and how four of them change places.
#pragma once

#include <cstdint>

namespace proxconnect {
namespace {

typedef float Four __attribute__((vector_size(16), may_alias));
typedef float AnyFour __attribute__((vector_size(16), aligned(4), may_alias));
typedef int32_t FourIntegers __attribute__((vector_size(16), may_alias));

template <int A, int B, int C, int D>
inline Four picked(Four a, Four b) {
#if defined(__clang__)
    return __builtin_shufflevector(a, b, A, B, C, D);
#else
    return __builtin_shuffle(a, b, FourIntegers{A, B, C, D});
#endif
}

inline void transpose(Four (&v)[4]) {
    const Four a = picked<0, 4, 1, 5>(v[0], v[1]), b = picked<2, 6, 3, 7>(v[0], v[1]);
    const Four c = picked<0, 4, 1, 5>(v[2], v[3]), d = picked<2, 6, 3, 7>(v[2], v[3]);
    v[0] = picked<0, 1, 4, 5>(a, c), v[1] = picked<2, 3, 6, 7>(a, c);
    v[2] = picked<0, 1, 4, 5>(b, d), v[3] = picked<2, 3, 6, 7>(b, d);
}

}  // namespace
}  // namespace proxconnect
