// How sums of ±1 products become outputs, V::outputs channels at a time, in vectors that GCC and Clang make of what
// there is: K entries of which c differ give K - 2c.
#pragma once

#include <cmath>
#include <cstring>

#include "kernels.hpp"
#include "sizes.hpp"

namespace proxconnect {

// Nameless, so that each file keeps its own: the linker would otherwise take any, AVX-512's for a machine without.
namespace {

template <int N>
struct Vectors {
    typedef int32_t Ints __attribute__((vector_size(4 * N)));
    typedef uint32_t Words __attribute__((vector_size(4 * N)));
    typedef float Floats __attribute__((vector_size(4 * N)));
};

template <class Vector>
inline Vector loaded(const void* from) {
    Vector v;
    std::memcpy(&v, from, sizeof v);
    return v;
}

template <class V>
using Ints = typename Vectors<V::outputs>::Ints;

template <class V>
using Floats = typename Vectors<V::outputs>::Floats;

// What an accumulator holds of the sums.
template <class V, int OVERFLOW>
inline Floats<V> held(Ints<V> sums, const Output& output) {
    using Words = typename Vectors<V::outputs>::Words;
    if (OVERFLOW == NEVER) return __builtin_convertvector(sums, Floats<V>);
    const int32_t bound = int32_t{1} << (output.bits - 1);
    if (OVERFLOW == SATURATE) {
        const Ints<V> low = Ints<V>{} - bound, high = Ints<V>{} + (bound - 1);
        sums = sums < low ? low : sums;
        return __builtin_convertvector(sums > high ? high : sums, Floats<V>);
    }
    const uint32_t half = static_cast<uint32_t>(bound);
    const Words wrapped = (((Words)sums + half) & (2 * half - 1)) - half;  // the floored modulus, of a power of 2
    const Floats<V> values = __builtin_convertvector((Ints<V>)wrapped, Floats<V>);
    if (OVERFLOW == WRAP) return values;
    const Floats<V> size = values < 0.0f ? -values : values;
    const Floats<V> falling = output.slope * (static_cast<float>(bound) - size);
    return size <= falling ? values : (values < 0.0f ? -falling : falling);
}

// How many entries a sum has, and by how many bits to shift what differs: 1, or 0 where it was counted twice.
struct Entries {
    int32_t all, shift;
};

// Writes outputs [channel, last); differing(c) counts for those from channel + c on. `output` is a copy, lest what is
// written might change it.
template <class V, int OVERFLOW, class Differing>
inline void put_held(const Differing& differing, Entries entries, Output output, int64_t channel, int64_t last,
                     float* y) {
    const auto value = [&](int64_t c) {
        const Ints<V> sums = entries.all - (differing(c - channel) << entries.shift);
        const Floats<V> values = held<V, OVERFLOW>(sums, output) * loaded<Floats<V>>(output.scale + c);
        return values + loaded<Floats<V>>(output.bias + c);
    };
    int64_t c = channel;
    for (; c + V::outputs <= last; c += V::outputs) {
        const Floats<V> values = value(c);
        std::memcpy(y + c, &values, sizeof values);
    }
    if (c < last) {
        const Floats<V> values = value(c);
        std::memcpy(y + c, &values, static_cast<size_t>(last - c) * sizeof(float));
    }
}

template <class V, class Differing>
inline void put(const Differing& differing, Entries entries, const Output& output, int64_t channel, int64_t last,
                float* y) {
    switch (output.overflow) {
        case NEVER: return put_held<V, NEVER>(differing, entries, output, channel, last, y);
        case WRAP: return put_held<V, WRAP>(differing, entries, output, channel, last, y);
        case SATURATE: return put_held<V, SATURATE>(differing, entries, output, channel, last, y);
        default: return put_held<V, CYCLIC>(differing, entries, output, channel, last, y);
    }
}

inline void put_nan(int64_t channel, int64_t last, float* y) {
    for (; channel < last; ++channel) y[channel] = NAN;
}

}  // namespace
}  // namespace proxconnect
