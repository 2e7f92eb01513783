// One function for each entry point of the C interface: draws arguments, calls it and holds the answer against a few
// lines that say the same. What differs ends the process.
#pragma once

#include <array>

#include "fuzz/draws.hpp"
#include "fuzz/guarded.hpp"
#include "proxconnect.h"

namespace fuzz {

void binary_linear(Draws& draws);
void fused_linear(Draws& draws);
void binary_conv2d(Draws& draws);
void fused_conv2d(Draws& draws);
void finish(Draws& draws);
void finish_max_pool2d(Draws& draws);
void weight_only_linear(Draws& draws);
void dynamic_int8_linear(Draws& draws);
void fused_float_linear(Draws& draws);
void weight_only_conv2d(Draws& draws);
void dynamic_int8_conv2d(Draws& draws);
void int8_linear(Draws& draws);
void fused_int8_linear(Draws& draws);
void int8_conv2d(Draws& draws);
void fused_int8_conv2d(Draws& draws);
void fused_float_conv2d(Draws& draws);
void attention(Draws& draws);
void quantize(Draws& draws);
void quantize_backward(Draws& draws);

// What all of them draw: an instruction set that this machine runs; rarely one that it does not run, or that there is
// none of.
struct Machine {
    int32_t isa, threads;

    explicit Machine(Draws& draws);

    bool is_known() const { return px_supports(isa) != 0; }
};

// Ends the process with a message of where it was, unless that holds.
void require(bool holds, const char* what, int64_t at = -1, double expected = 0, double found = 0);

// Whether two floats are the same number, of zeros the same sign too, or both NaN.
bool same(float a, float b);

// The same but for the sign of zeros.
inline bool equal(float a, float b) { return a == b || same(a, b); }

// Whether all bytes are as Guarded made them.
template <class T> bool is_untouched(const Guarded<T>& array) {
    const uint8_t* const bytes = reinterpret_cast<const uint8_t*>(array.data());
    for (size_t i = 0; i < static_cast<size_t>(array.size()) * sizeof(T); ++i) {
        if (bytes[i] != 0xa5) return false;
    }
    return true;
}

// An array of floats at either end of its room; `after` entries more are the first again.
Guarded<float> floats(Draws& draws, int64_t count, Mood mood, int64_t after = 0);

// Rows of floats, between which there may be NaN, for a product with n outputs.
struct Rows {
    int64_t m, n, entries, stride;
    Guarded<float> x;

    // `most` rows, outputs and entries, and products of all three.
    static Rows drawn(Draws& draws, const std::array<int64_t, 3>& most, int64_t work);
};

// Halves the largest of sizes until their product is `most` at most, rarely sixteen times that; or, more rarely still,
// doubles the smallest until there is enough work for threads.
void bound(Draws& draws, std::initializer_list<int64_t*> sizes, int64_t most);

}  // namespace fuzz
