// What every machine has: vectors of two words, whose bits are counted by adding neighbours.
#include "binary_conv.hpp"
#include "quantizer.hpp"

namespace proxconnect {
namespace {

struct Portable {
    typedef uint64_t Vector __attribute__((vector_size(16)));  // which GCC and Clang make of what there is
    using Count = Vector;                                       // a count in each byte
    static constexpr int lanes = 2, rows = 2, panels = 1;
    static constexpr int64_t limit = 31;  // a byte holds 31 counts of up to 8

    static Vector load(const uint64_t* from) { return Vector{from[0], from[1]}; }
    static Vector broadcast(uint64_t word) { return Vector{word, word}; }
    static Count zero() { return Vector{0, 0}; }

    static Count add_differing(Count count, Vector a, Vector b) {
        Vector x = a ^ b;
        x = x - ((x >> 1) & 0x5555555555555555u);
        x = (x & 0x3333333333333333u) + ((x >> 2) & 0x3333333333333333u);
        return count + ((x + (x >> 4)) & 0x0f0f0f0f0f0f0f0fu);
    }

    static Vector totals(Count count) {
        Vector x = (count & 0x00ff00ff00ff00ffu) + ((count >> 8) & 0x00ff00ff00ff00ffu);
        x = x + (x >> 16);
        return (x + (x >> 32)) & 0xffffu;
    }

    static Vector add(Vector a, Vector b) { return a + b; }
    static void store(uint64_t* to, Vector v) { to[0] = v[0], to[1] = v[1]; }

    static constexpr auto pack_block = proxconnect::pack_block;

    static uint64_t signs(const float* x, bool& has_nan) {
        uint64_t word = 0;
        bool nan = false;
        for (int i = 0; i < 64; ++i) {
            word |= static_cast<uint64_t>(x[i] >= 0.0f) << i;
            nan |= x[i] != x[i];
        }
        has_nan |= nan;
        return word;
    }
};

struct PortableFloats : Lanes<4> {
    static Floats fma(Floats a, Floats b, Floats c) { return a * b + c; }
};

}  // namespace

const Kernels portable_kernels = {
    pack_row<Portable>, binary_linear<Portable>, pack_pixels<Portable>, binary_conv<Portable>, quantize<PortableFloats>, slope<PortableFloats>,
};

}  // namespace proxconnect
