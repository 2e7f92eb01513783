// Plain C++, which compilers turn into what every machine has.
#include "binary_conv.hpp"

namespace proxconnect {
namespace {

struct Portable {
    struct Vector {
        uint64_t word[8];
    };
    using Count = Vector;  // a count in each byte
    static constexpr int lanes = 8, rows = 1, panels = 1;
    static constexpr int64_t limit = 31;  // a byte holds 31 counts of up to 8

    static Vector load(const uint64_t* from) {
        Vector v;
        std::memcpy(v.word, from, sizeof v.word);
        return v;
    }

    static Vector broadcast(uint64_t word) {
        Vector v;
        for (uint64_t& w : v.word) w = word;
        return v;
    }

    static Count zero() { return {}; }

    static Count add_differing(Count count, const Vector& a, const Vector& b) {
        for (int i = 0; i < 8; ++i) {
            uint64_t x = a.word[i] ^ b.word[i];
            x = x - ((x >> 1) & 0x5555555555555555u);
            x = (x & 0x3333333333333333u) + ((x >> 2) & 0x3333333333333333u);
            count.word[i] += (x + (x >> 4)) & 0x0f0f0f0f0f0f0f0fu;
        }
        return count;
    }

    static void empty(const Count& count, uint64_t* totals) {
        for (int i = 0; i < 8; ++i) {
            const uint64_t even = count.word[i] & 0x00ff00ff00ff00ffu, odd = (count.word[i] >> 8) & 0x00ff00ff00ff00ffu;
            totals[i] += ((even + odd) * 0x0001000100010001u) >> 48;
        }
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

}  // namespace

const Kernels portable_kernels = {pack_row<Portable>, binary_linear<Portable>, pack_pixels<Portable>, binary_conv<Portable>};

}  // namespace proxconnect
