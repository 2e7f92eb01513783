"""The curves C of the quantizer and their slopes C', on blocks of float32: the twin of `csrc/quantizer/curves.hpp`.

Nothing overflows. Terms cancel only where a slope is 0. NaN stays NaN. Triton's `exp` is not exact enough: its argument
is rounded after the multiplication by log₂ e, and tanh needs e^x - 1 near 0.
"""

import triton
import triton.language as tl

SIGN = tl.constexpr(0)
CLIP = tl.constexpr(1)
POLYNOMIAL = tl.constexpr(2)
TANH = tl.constexpr(3)
ERROR_DECAY = tl.constexpr(4)
SIGN_SWISH = tl.constexpr(5)
PROXCONNECT = tl.constexpr(6)
BINARYRELAX = tl.constexpr(7)
"""The curves by number, in the order of `csrc/proxconnect.h`."""

FAR = tl.constexpr(80.0)
"""Beyond, sign_swish and tanh have long come to their limits, and e^-a is not denormal."""


@triton.jit
def constants(mu, CURVE: tl.constexpr):
    """Return inner, gain and jump of F(x) = gain·C(inner·x), where C jumps at 0 by `jump` to each side."""
    inner, gain, jump = 1.0, 1.0, 0.0
    if CURVE == PROXCONNECT:
        jump = 1.0 - tl.div_rn(1.0, mu)
    elif CURVE == BINARYRELAX:
        inner = tl.div_rn(1.0, mu)
        jump = 1.0 - inner
    elif CURVE == ERROR_DECAY:
        inner = mu
        gain = tl.div_rn(1.0, at_most(mu, 1.0))
    elif CURVE != SIGN:
        inner = mu
    return inner, gain, jump


@triton.jit
def curve(u, jump, CURVE: tl.constexpr):
    """Return C(u)."""
    if CURVE == CLIP:
        value = with_sign(at_most(tl.abs(u), 1.0), u)
    elif CURVE == POLYNOMIAL:
        size = at_most(tl.abs(u), 1.0)
        value = with_sign(size * (2.0 - size), u)
    elif CURVE == TANH or CURVE == ERROR_DECAY:  # noqa: SIM109  # Triton knows no `in`
        _, less_one = exponential(at_most(2.0 * tl.abs(u), FAR))
        value = with_sign(less_one / (2.0 + less_one), u)
    elif CURVE == SIGN_SWISH:  # h + (a/2)·q with a = |u|, h = tanh(a/2), q = 1 - h²
        a = at_most(tl.abs(u), FAR)
        power, less_one = exponential(a)
        share = 1.0 / (2.0 + less_one)
        value = with_sign(share * tl.fma(2.0 * a * power, share, -less_one), u)
    elif CURVE == PROXCONNECT:
        size = at_most(tl.abs(u) + jump, 1.0)
        value = tl.where(u < 0.0, -size, size)
    elif CURVE == BINARYRELAX:
        value = u + tl.where(u < 0.0, -jump, jump)
    else:
        value = signs(u)
    return value


@triton.jit
def slope(u, CURVE: tl.constexpr):
    """Return C'(u) of a curve that is differentiable or `CLIP`, whose slope at ±1 is 1."""
    a = tl.abs(u)
    if CURVE == CLIP:
        rate = tl.where(a <= 1.0, 1.0, tl.where(a > 1.0, 0.0, u))
    elif CURVE == POLYNOMIAL:
        rate = 2.0 - 2.0 * at_most(a, 1.0)
    elif CURVE == SIGN_SWISH:  # q·(1 - (a/2)·h)
        a = at_most(a, FAR)
        power, less_one = exponential(a)
        share = 1.0 / (2.0 + less_one)
        rate = 4.0 * power * share * share * tl.fma(0.5 * a * share, less_one, 1.0)
    else:  # of tanh: 4t(1 - t) with t = σ(-2|u|)
        power, less_one = exponential(at_most(2.0 * a, FAR))
        share = 1.0 / (2.0 + less_one)
        rate = 4.0 * power * share * share
    return rate


@triton.jit
def signs(u):
    """Return 1 for u ≥ 0 (also for -0), -1 for u < 0 and NaN for NaN."""
    return tl.where(u < 0.0, -1.0, tl.where(u >= 0.0, 1.0, u))


@triton.jit
def exponential(a):
    """Return e^-a and e^-a - 1 for 0 ≤ a ≤ 80, both to an ulp or two: e^-a = 2^n·e^r with |r| ≤ ln(2)/2."""
    shifted = tl.fma(a, -1.44269504, 12582912.0)  # 1.5·2^23: the sum has an integer in its low bits
    n = shifted - 12582912.0
    r = tl.fma(n, 2.12194440e-4, tl.fma(n, -0.693359375, -a))  # ln 2 in two parts
    power = ((shifted.to(tl.int32, bitcast=True) << 23) + 0x3F800000).to(tl.float32, bitcast=True)
    q = tl.fma(r, 1.3882984e-3, 8.366548e-3)  # (e^r - 1 - r)/r², for the least relative error of e^r - 1: 1.7e-8
    q = tl.fma(r, q, 4.1667193e-2)
    q = tl.fma(r, q, 0.16666543)
    q = tl.fma(r, q, 0.49999997)
    rest = tl.fma(r * r, q, r)
    return tl.fma(power, rest, power), tl.fma(power, rest, power - 1.0)


@triton.jit
def at_most(u, bound):
    """Return min(u, bound), and NaN for NaN."""
    return tl.where(u > bound, bound, u)


@triton.jit
def with_sign(size, u):
    """Return |size| with the sign of u, also that of -0."""
    bits = (size.to(tl.int32, bitcast=True) & 0x7FFFFFFF) | (u.to(tl.int32, bitcast=True) & -0x80000000)
    return bits.to(tl.float32, bitcast=True)
