// GELU, v·Φ(v), by a polynomial.
#pragma once

#include "isa/vectors.hpp"

namespace proxconnect {
namespace {

// From there on, Φ(-a) is less than 3e-7, and torch's own error is as large.
constexpr float GELU_END = 5.0f;

// The coefficients of Φ(-a), in powers of 2a / GELU_END - 1. They make the largest |error of v·Φ(v)| / max(1, |v|)
// small, below GELU_END 2.9e-7.
constexpr float GELU_TAIL[] = {0.00620973995f,  -0.0438209288f, 0.136930108f,   -0.239630297f, 0.23200056f,
                               -0.0653479323f,  -0.126906231f,  0.162314743f,   -0.0358192474f, -0.0757817402f,
                               0.0557924919f,   0.0113336667f,  -0.0208025444f, 0.000937347999f, 0.00259058131f};

template <class V>
inline Floats<V> gelu(Floats<V> v) {
    constexpr int DEGREE = sizeof GELU_TAIL / sizeof(float) - 1;
    const Floats<V> zero = {}, size = (Floats<V>)((Words<V>)v & 0x7fffffffu);
    const Floats<V> at = V::fma(size, zero + 2.0f / GELU_END, zero - 1.0f);
    Floats<V> tail = zero + GELU_TAIL[DEGREE];
    for (int i = DEGREE - 1; i >= 0; --i) tail = V::fma(tail, at, zero + GELU_TAIL[i]);
    const Floats<V> end = v < 0.0f ? zero : v;
    return size < GELU_END ? V::fma(-size, tail, end) : end;
}

}  // namespace
}  // namespace proxconnect
