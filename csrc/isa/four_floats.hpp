// Vectors of four floats for any machine, and the transposition of four of them.
#pragma once

#include "isa/vectors.hpp"

namespace proxconnect {
namespace {

using FourFloats = Vectors<4>::Floats;
using FourInts = Vectors<4>::Ints;

template <int A, int B, int C, int D>
inline FourFloats picked(FourFloats a, FourFloats b) {
#if defined(__clang__)
    return __builtin_shufflevector(a, b, A, B, C, D);
#else
    return __builtin_shuffle(a, b, FourInts{A, B, C, D});
#endif
}

inline void transpose(FourFloats (&v)[4]) {
    const FourFloats a = picked<0, 4, 1, 5>(v[0], v[1]), b = picked<2, 6, 3, 7>(v[0], v[1]);
    const FourFloats c = picked<0, 4, 1, 5>(v[2], v[3]), d = picked<2, 6, 3, 7>(v[2], v[3]);
    v[0] = picked<0, 1, 4, 5>(a, c), v[1] = picked<2, 3, 6, 7>(a, c);
    v[2] = picked<0, 1, 4, 5>(b, d), v[3] = picked<2, 3, 6, 7>(b, d);
}

}  // namespace
}  // namespace proxconnect
