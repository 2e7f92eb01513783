// Any machine: vectors of two words. Bits are counted by adding neighbours.
#include "isa/table.hpp"

namespace proxconnect {
namespace {

struct Portable : ByteCounting<4> {
    typedef uint64_t Vector __attribute__((vector_size(16)));  // which GCC and Clang make of what there is
    using Count = Vector;                                       // a count in each byte
    using Tables = NoTables;
    static constexpr int lanes = 2, rows = 2;

    static Vector load(const void* from) { return loaded<Vector>(from); }
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
    static void store(void* to, Vector v) { std::memcpy(to, &v, sizeof v); }

    static Ints narrowed(Vector low, Vector high) {
        Ints v;
        for (int i = 0; i < outputs; ++i) v[i] = static_cast<int32_t>(i < lanes ? low[i] : high[i - lanes]);
        return v;
    }

    static Ints widened(const uint8_t* from) {
        return Ints{from[0], from[1], from[2], from[3]};
    }

    static void spread(uint64_t bits, uint8_t* to) {
        for (int i = 0; i < 8; ++i) {
            const uint64_t places = (bits >> (8 * i) & 255) * 0x0101010101010101u & 0x8040201008040201u;
            const uint64_t bytes = (places + 0x7f7f7f7f7f7f7f7fu) >> 7 & 0x0101010101010101u;
            std::memcpy(to + 8 * i, &bytes, sizeof bytes);
        }
    }

    static Vector none() { return Vector{0, 0}; }
    static Vector add_bits(Vector count, Vector a, Vector b) { return count + (a ^ b); }
    static constexpr auto add_ones = add_differing;

    static Floats fma(Floats a, Floats b, Floats c) {
        for (int i = 0; i < outputs; ++i) c[i] = std::fma(a[i], b[i], c[i]);
        return c;
    }

    static uint32_t below(Words a, Words b) {
        uint32_t bits = 0;
        for (int i = 0; i < outputs; ++i) bits |= static_cast<uint32_t>(a[i] < b[i]) << i;
        return bits;
    }

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

const Kernels portable_kernels = kernels_with<Portable, PortableFloats>(portable_weight_only, int8_with<Portable, add_bytes>);

}  // namespace proxconnect
