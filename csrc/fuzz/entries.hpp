// One function for each entry point of the C interface. It draws arguments, calls the entry point and compares the
// answer with a few plain lines. A difference ends the process.
#pragma once

#include <array>

#include "fuzz/draws.hpp"
#include "fuzz/guarded.hpp"
#include "proxconnect.h"

namespace fuzz {

void prepack_signs(Draws& draws);
void binary_linear(Draws& draws);
void binary_conv2d(Draws& draws);
void finish(Draws& draws);
void finish_max_pool2d(Draws& draws);
void layer_norm(Draws& draws);
void pixel_means(Draws& draws);
void weight_only_linear(Draws& draws);
void dynamic_int8_linear(Draws& draws);
void linear_in_groups(Draws& draws);
void fused_float_linear(Draws& draws);
void weight_only_conv2d(Draws& draws);
void dynamic_int8_conv2d(Draws& draws);
void fused_weight_only_conv2d(Draws& draws);
void int8_linear(Draws& draws);
void int8_conv2d(Draws& draws);
void fused_float_conv2d(Draws& draws);
void fused_float_conv2d_by_multiply_adds(Draws& draws);
void attention(Draws& draws);
void decoder_layer(Draws& draws);
void quantize(Draws& draws);
void quantize_backward(Draws& draws);

// Common draws: an instruction set that this machine runs, or rarely one that it does not run, or one that does not
// exist.
struct Machine {
    int32_t isa, threads;

    explicit Machine(Draws& draws);

    bool is_known() const { return px_supports(isa) != 0; }
    bool has_float_weights() const { return isa == AVX2 || isa == AVX512_VNNI || isa == AVX512; }
};

// End the process with a message unless `holds`.
void require(bool holds, const char* what, int64_t at = -1, double expected = 0, double found = 0);

// Return true if two floats are the same number, with the same sign if they are zeros, or both NaN.
bool same(float a, float b);

// The same, but zeros of either sign are equal.
inline bool equal(float a, float b) { return a == b || same(a, b); }

// Return true if all bytes are as Guarded made them.
template <class T> bool is_untouched(const Guarded<T>& array) {
    const uint8_t* const bytes = reinterpret_cast<const uint8_t*>(array.data());
    for (size_t i = 0; i < static_cast<size_t>(array.size()) * sizeof(T); ++i) {
        if (bytes[i] != 0xa5) return false;
    }
    return true;
}

// Draw an array of floats at either end of its room. `after` more entries repeat the first.
Guarded<float> floats(Draws& draws, int64_t count, Mood mood, int64_t after = 0);

// Rows of floats, possibly with NaN between them, for a product with n outputs.
struct Rows {
    int64_t m, n, entries, stride;
    Guarded<float> x;

    // Draw at most `most` rows, outputs and entries, and as many products of all three.
    static Rows drawn(Draws& draws, const std::array<int64_t, 3>& most, int64_t work);
};

// Halve the largest size until their product is at most `most`, or rarely sixteen times that. More rarely, double the
// smallest until there is enough work for threads.
void bound(Draws& draws, std::initializer_list<int64_t*> sizes, int64_t most);

}  // namespace fuzz
