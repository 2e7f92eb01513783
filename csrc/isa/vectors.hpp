// Vectors of an instruction set's width for outputs. GCC and Clang compile them to the instructions they may use.
#pragma once

#include <cstdint>
#include <cstring>

namespace proxconnect {

// In an unnamed namespace, so that each file keeps its own copy. The linker could otherwise take AVX-512's for all.
namespace {

template <int N>
struct Vectors {
    typedef int32_t Ints __attribute__((vector_size(4 * N)));
    typedef uint32_t Words __attribute__((vector_size(4 * N)));
    typedef float Floats __attribute__((vector_size(4 * N)));
};

template <class V>
using Ints = typename Vectors<V::outputs>::Ints;

template <class V>
using Words = typename Vectors<V::outputs>::Words;

template <class V>
using Floats = typename Vectors<V::outputs>::Floats;

template <class Vector>
inline Vector loaded(const void* from) {
    Vector v;
    std::memcpy(&v, from, sizeof v);
    return v;
}

template <int N>
inline float sum_of(typename Vectors<N>::Floats v) {
    if constexpr (N == 1) {
        return v[0];
    } else {
        typename Vectors<N / 2>::Floats halves[2];
        std::memcpy(halves, &v, sizeof v);
        return sum_of<N / 2>(halves[0] + halves[1]);
    }
}

// Load up to `count` floats in place of the first ones of v.
template <class Vector>
inline Vector loaded_over(Vector v, const float* from, int64_t count) {
    constexpr int64_t size = sizeof(Vector) / sizeof(float);
    std::memcpy(&v, from, count < size ? static_cast<size_t>(count) * sizeof(float) : sizeof v);
    return v;
}

// Load up to `count` floats. The others are 0.
template <class Vector>
inline Vector loaded_part(const float* from, int64_t count) {
    return loaded_over(Vector{}, from, count);
}

template <class Vector>
inline void store_part(const Vector& v, int64_t count, float* to) {
    constexpr int64_t size = sizeof(Vector) / sizeof(float);
    if (count >= size) {
        std::memcpy(to, &v, sizeof v);
    } else {
        const Vector copy = v;  // so that v itself stays in a register
        std::memcpy(to, &copy, static_cast<size_t>(count) * sizeof(float));
    }
}

}  // namespace
}  // namespace proxconnect
