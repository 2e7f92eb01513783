// The curves C of the quantizer and their slopes C', on vectors of floats. Nothing overflows. Terms cancel only where a
// slope is 0. NaN stays NaN.
//
// An instruction set gives its number of lanes and a multiply-add, which may round once or twice. The rest is the
// compilers' own arithmetic on vectors. Compilers that called these functions would keep no constant in a register.
#pragma once

#include "isa/unrolled.hpp"

namespace proxconnect {
namespace {

template <int N> struct Lanes {
    typedef float Floats __attribute__((vector_size(4 * N)));
    typedef uint32_t Words __attribute__((vector_size(4 * N)));
    typedef uint16_t Halves __attribute__((vector_size(2 * N)));
    typedef uint8_t Bytes __attribute__((vector_size(N)));
    static constexpr int lanes = N;

    static Floats all(float value) { return value - Floats{}; }
    static Floats magnitude(Floats v) { return (Floats)((Words)v & 0x7fffffffu); }
    static Floats with_sign(Floats v, Floats sign) {
        return (Floats)(((Words)v & 0x7fffffffu) | ((Words)sign & 0x80000000u));
    }
    static Floats inverse(Floats v) { return 1.0f / v; }
    static Floats at_most(Floats v, float bound) { return v > bound ? all(bound) : v; }
};

constexpr float FAR = 80.0f;  // beyond, sign_swish and tanh have long come to their limits, and e^-a is not denormal

// e^-a and e^-a - 1 for 0 <= a <= 80, both to an ulp or two: e^-a = 2^n·e^r with |r| <= ln(2)/2.
template <class I> struct Exponential {
    typename I::Floats value, less_one;

    ALWAYS_INLINE explicit Exponential(typename I::Floats a) {
        using V = typename I::Floats;
        constexpr float rounder = 12582912.0f;  // 1.5·2^23: what is added to it becomes an integer, in its low bits
        const V shifted = I::fma(a, I::all(-1.44269504f), I::all(rounder)), n = shifted - rounder;
        const V r = I::fma(n, I::all(2.12194440e-4f), I::fma(n, I::all(-0.693359375f), -a));  // ln 2 in two parts
        const V power = (V)(((typename I::Words)shifted << 23) + 0x3f800000u);
        // (e^r - 1 - r)/r², fitted for the least relative error of e^r - 1, which is 1.7e-8.
        V q = I::fma(r, I::all(1.3882984e-3f), I::all(8.366548e-3f));
        q = I::fma(r, q, I::all(4.1667193e-2f));
        q = I::fma(r, q, I::all(0.16666543f));
        q = I::fma(r, q, I::all(0.49999997f));
        const V rest = I::fma(r * r, q, r);
        value = I::fma(power, rest, power);
        less_one = I::fma(power, rest, power - 1.0f);
    }
};

// C and C' at u. `jump` is a parameter of the two curves that jump at 0.
template <class I> struct SignCurve {
    using V = typename I::Floats;
    ALWAYS_INLINE static V value(V u, float) { return u == u ? I::with_sign(I::all(1.0f), u + 0.0f) : u; }  // -0 + 0 is +0
};

template <class I> struct ClipCurve {
    using V = typename I::Floats;
    ALWAYS_INLINE static V value(V u, float) { return I::with_sign(I::at_most(I::magnitude(u), 1.0f), u); }
    ALWAYS_INLINE static V slope(V u) {
        const V a = I::magnitude(u);
        return a <= 1.0f ? I::all(1.0f) : a > 1.0f ? I::all(0.0f) : u;
    }
};

// v(2 - |v|), v = clip(u, -1, 1).
template <class I> struct PolynomialCurve {
    using V = typename I::Floats;
    ALWAYS_INLINE static V value(V u, float) {
        const V v = I::at_most(I::magnitude(u), 1.0f);
        return I::with_sign(v * (2.0f - v), u);
    }
    ALWAYS_INLINE static V slope(V u) { return 2.0f - 2.0f * I::at_most(I::magnitude(u), 1.0f); }
};

template <class I> struct TanhCurve {
    using V = typename I::Floats;
    ALWAYS_INLINE static V value(V u, float) {
        const Exponential<I> e(I::at_most(2.0f * I::magnitude(u), FAR));
        return I::with_sign(e.less_one * I::inverse(2.0f + e.less_one), u);
    }
    ALWAYS_INLINE static V slope(V u) {  // 4t(1 - t) with t = σ(-2|u|)
        const Exponential<I> e(I::at_most(2.0f * I::magnitude(u), FAR));
        const V share = I::inverse(2.0f + e.less_one);
        return 4.0f * e.value * share * share;
    }
};

// h + (a/2)·q and q·(1 - (a/2)·h) with a = |u|, h = tanh(a/2), q = 1 - h².
template <class I> struct SignSwishCurve {
    using V = typename I::Floats;
    ALWAYS_INLINE static V value(V u, float) {
        const V a = I::at_most(I::magnitude(u), FAR);
        const Exponential<I> e(a);
        const V share = I::inverse(2.0f + e.less_one);
        return I::with_sign(share * I::fma(2.0f * a * e.value, share, -e.less_one), u);
    }
    ALWAYS_INLINE static V slope(V u) {
        const V a = I::at_most(I::magnitude(u), FAR);
        const Exponential<I> e(a);
        const V share = I::inverse(2.0f + e.less_one);
        return 4.0f * e.value * share * share * I::fma(0.5f * a * share, e.less_one, I::all(1.0f));
    }
};

// sign(u)·min(1, jump + |u|).
template <class I> struct ProxConnectCurve {
    using V = typename I::Floats;
    ALWAYS_INLINE static V value(V u, float jump) {
        return I::with_sign(I::at_most(I::magnitude(u) + jump, 1.0f), u + 0.0f);
    }
};

// u + jump·sign(u).
template <class I> struct BinaryRelaxCurve {
    using V = typename I::Floats;
    ALWAYS_INLINE static V value(V u, float jump) { return u + I::with_sign(I::all(jump), u + 0.0f); }
};

}  // namespace
}  // namespace proxconnect
