// Powers of two, for a softmax.
#pragma once

#include "isa/unrolled.hpp"
#include "isa/vectors.hpp"

namespace proxconnect {
namespace {

constexpr float LOG2_E = 1.44269504f;

// (2^r - 1)/r for |r| <= 1/2, fitted for the least relative error of 2^r, which is 1.1e-7.
constexpr float POWER_POLYNOMIAL[] = {0.00132647599f, 0.00967153534f, 0.0555073395f, 0.240222424f, 0.693147004f, 1.0f};

// Return 2^x for x < 128, to two ulps, and 0 for x < -125.
template <class V>
ALWAYS_INLINE inline Floats<V> power_of_two(Floats<V> x) {
    // 1.5·2^23 + 127. Adding it rounds to an integer, whose lowest bits are the exponent of a float.
    constexpr float rounder = 12583039.0f;
    const Floats<V> whole = x + rounder, rest = x - (whole - rounder);
    Floats<V> power = Floats<V>{} + POWER_POLYNOMIAL[0];
    for (int i = 1; i < 6; ++i) power = V::fma(rest, power, Floats<V>{} + POWER_POLYNOMIAL[i]);
    return x < -125.0f ? Floats<V>{} : power * (Floats<V>)((Ints<V>)whole << 23);
}

}  // namespace
}  // namespace proxconnect
