// Choices of the fuzzer's bytes: sizes and flags one by one. The numbers of arrays come from a generator that every
// byte so far has seeded.
#pragma once

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <initializer_list>

namespace fuzz {

// The numbers of an array: common, small and whole, of any exponent, common with a few or with hardly any inf, NaN and
// the like, or any bits.
enum class Mood { COMMON, WHOLE, WIDE, SPECIAL, RARE, BITS };

class Draws {
  public:
    Draws(const uint8_t* bytes, size_t size) : next_(bytes), end_(bytes + size) {}

    int64_t below(int64_t bound) {
        int64_t value = byte();
        if (bound > 256) value = 256 * value + byte();
        return value % bound;
    }

    int64_t within(int64_t low, int64_t high) { return low + below(high - low + 1); }

    bool coin() { return below(2) == 1; }
    bool rarely() { return below(16) == 15; }

    template <class T> T one_of(std::initializer_list<T> values) {
        return values.begin()[below(static_cast<int64_t>(values.size()))];
    }

    // Draw a size from 1 to `most`: half the time small, or near the size of vectors, words and tiles.
    int64_t size(int64_t most) {
        const int64_t kind = below(4);
        if (kind == 0) return within(1, std::min<int64_t>(most, 5));
        if (kind > 1) return within(1, most);
        const int64_t whole = 16 * within(1, std::max<int64_t>(most / 16, 1));
        return std::clamp<int64_t>(whole + within(-1, 1), 1, most);
    }

    // Draw sixty-four bits for arrays, without using a byte.
    uint64_t random() {
        uint64_t z = state_ += 0x9e3779b97f4a7c15;
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
        z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
        return z ^ (z >> 31);
    }

    Mood mood() {
        return one_of({Mood::COMMON, Mood::WHOLE, Mood::WIDE, Mood::SPECIAL, Mood::RARE, Mood::BITS});
    }

    float number(Mood mood) {
        const uint64_t bits = random();
        switch (mood) {
            case Mood::WHOLE: return static_cast<float>(static_cast<int64_t>(bits % 9) - 4);
            case Mood::WIDE: return of_bits(bits % 0x7f800000, bits >> 63);
            case Mood::BITS: return of_bits(bits & 0x7fffffff, bits >> 63);
            case Mood::SPECIAL:
            case Mood::RARE:
                if (bits >> (mood == Mood::RARE ? 54 : 58) == 0) return special(bits % 10);
                [[fallthrough]];
            default: return static_cast<float>(static_cast<int64_t>(bits >> 40) - (1 << 23)) * 0x1p-22f;
        }
    }

  private:
    uint8_t byte() {
        const uint8_t value = next_ == end_ ? 0 : *next_++;
        state_ = (state_ ^ value) * 0x100000001b3;
        return value;
    }

    static float of_bits(uint64_t magnitude, uint64_t is_negative) {
        const uint32_t bits = static_cast<uint32_t>(magnitude | is_negative << 31);
        float value;
        std::memcpy(&value, &bits, sizeof value);
        return value;
    }

    static float special(uint64_t which) {
        constexpr float values[] = {NAN,  INFINITY, -INFINITY, 0.0f,     -0.0f,
                                    -NAN, FLT_MIN,  FLT_MAX,   1.4e-45f, -1e-39f};
        return values[which];
    }

    const uint8_t *next_, *end_;
    uint64_t state_ = 0xcbf29ce484222325;
};

}  // namespace fuzz
