// Vectors of an instruction set's width for outputs, which GCC and Clang make of what there is.
#pragma once

#include <cstdint>
#include <cstring>

namespace proxconnect {

// Nameless, so that each file keeps its own: the linker would otherwise take any, AVX-512's for a machine without.
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

// As many of its floats as there are, the others 0.
template <class Vector>
inline Vector loaded_part(const float* from, int64_t count) {
    constexpr int64_t size = sizeof(Vector) / sizeof(float);
    Vector v = {};
    std::memcpy(&v, from, count < size ? static_cast<size_t>(count) * sizeof(float) : sizeof v);
    return v;
}

template <class Vector>
inline void store_part(const Vector& v, int64_t count, float* to) {
    constexpr int64_t size = sizeof(Vector) / sizeof(float);
    if (count >= size) {
        std::memcpy(to, &v, sizeof v);
    } else {
        std::memcpy(to, &v, static_cast<size_t>(count) * sizeof(float));
    }
}

}  // namespace
}  // namespace proxconnect
