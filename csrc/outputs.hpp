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

    template <class Counts>
    Counts sums(Counts differing) const {
        return all - (differing << shift);
    }
};

// Channels [begin, end) of the outputs. Those that end beyond the last channel are the first of the next row.
struct Channels {
    int64_t begin, end;

    int64_t count() const { return end - begin; }
};

inline float* place_of(const Outputs& outputs, int64_t row, int64_t channel) {
    return outputs.y + (outputs.first + row) * outputs.channels + channel;
}

// Floats of one row. `output` is a copy, lest what is written might change it.
template <class V, int OVERFLOW, class Sums>
inline void put_floats(const Sums& sums, Output output, Channels of, float* y) {
    const auto value = [&](int64_t c) {
        const Floats<V> values = held<V, OVERFLOW>(sums(c), output) * loaded<Floats<V>>(output.scale + of.begin + c);
        return values + loaded<Floats<V>>(output.bias + of.begin + c);
    };
    int64_t c = 0;
    for (; c + V::outputs <= of.count(); c += V::outputs) {
        const Floats<V> values = value(c);
        std::memcpy(y + c, &values, sizeof values);
    }
    if (c < of.count()) {
        const Floats<V> values = value(c);
        std::memcpy(y + c, &values, static_cast<size_t>(of.count() - c) * sizeof(float));
    }
}

template <class V, int OVERFLOW, int ROWS, class Sums>
inline void put_held(const Sums& sums, const Outputs& outputs, const int64_t* rows, Channels of) {
    for (int r = 0; r < ROWS; ++r) {
        put_floats<V, OVERFLOW>([&](int64_t c) { return sums(r, c); }, outputs.output, of,
                                place_of(outputs, rows[r], of.begin));
    }
}

// Where all sums become outputs: channels of ROWS rows, at most SIZE, a multiple of V::outputs, each. sums(r, c) are
// the int32 of rows[r], V::outputs channels from of.begin + c on; it is called for c below SIZE.
template <class V, int ROWS, int SIZE, class Sums>
inline void put(const Sums& sums, const Outputs& outputs, const int64_t* rows, Channels of) {
    static_assert(SIZE % V::outputs == 0);
    switch (outputs.output.overflow) {
        case NEVER: return put_held<V, NEVER, ROWS>(sums, outputs, rows, of);
        case WRAP: return put_held<V, WRAP, ROWS>(sums, outputs, rows, of);
        case SATURATE: return put_held<V, SATURATE, ROWS>(sums, outputs, rows, of);
        default: return put_held<V, CYCLIC, ROWS>(sums, outputs, rows, of);
    }
}

inline void put_nan(const Outputs& outputs, int64_t row, Channels of) {
    for (int64_t c = of.begin; c < of.end; ++c) *place_of(outputs, row, c) = NAN;
}

}  // namespace
}  // namespace proxconnect
