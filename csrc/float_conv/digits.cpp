#include "float_conv/digits.hpp"

#include "epilogue/finished_numbers.hpp"
#include "int8/byte_tiles.hpp"
#include "isa/amx.hpp"
#include "isa/avx512.hpp"

namespace proxconnect {
namespace {

constexpr int64_t LANES = 16, ROW = PLACES * BLOCK;  // the sums of a row, those of the highest place first

// Return the digits of sixteen numbers, in the first three bytes of each.
__m512i digits_of(__m512 x, __m512 inverse) {
    const __m512i whole = _mm512_cvtps_epi32(_mm512_mul_ps(x, inverse)), halves = _mm512_set1_epi32(0x808080);
    return _mm512_xor_si512(_mm512_add_epi32(whole, halves), halves);
}

// The places of three bytes of each word, word after word. Functions of a std::array would have linkage.
struct alignas(64) ThreeBytes {
    uint8_t of[64] = {};

    constexpr ThreeBytes() {
        for (int i = 0; i < 48; ++i) of[i] = static_cast<uint8_t>(i / 3 * 4 + i % 3);
    }
};
constexpr ThreeBytes THREE_BYTES;

// The places of the digits of sixteen pixels of three planes, 48 bytes at a time: in the vectors of the first two
// planes, or, where a mask has a bit, in that of the third.
struct alignas(64) ThreePlanes {
    uint8_t of[3][64] = {};
    uint64_t is_third[3] = {};

    constexpr ThreePlanes() {
        for (int i = 0; i < 144; ++i) {
            const int pixel = i / 9, plane = i % 9 / 3, digit = i % 3;
            of[i / 48][i % 48] = static_cast<uint8_t>(4 * pixel + digit + (plane == 1 ? 64 : 0));
            if (plane == 2) is_third[i / 48] |= uint64_t{1} << i % 48;
        }
    }
};
constexpr ThreePlanes THREE_PLANES;

// Write the digits of sixteen pixels of three planes, as in colour images.
void put_colours(const float* x, int64_t apart, __m512 factor, uint8_t* to) {
    const auto plane = [&](int64_t c) { return digits_of(_mm512_loadu_ps(x + c * apart), factor); };
    const __m512i first = plane(0), second = plane(1), third = plane(2);
    for (int part = 0; part < 3; ++part) {
        const __m512i places = _mm512_load_si512(THREE_PLANES.of[part]);
        const __m512i of_two = _mm512_permutex2var_epi8(first, places, second);
        const __m512i bytes = _mm512_mask_permutexvar_epi8(of_two, THREE_PLANES.is_third[part], places, third);
        _mm512_mask_storeu_epi8(to + 48 * part, (uint64_t{1} << 48) - 1, bytes);
    }
}

// The numbers that the sums of a tile's rows represent.
struct DigitSums {
    const int32_t* sums;
    float quantum;

    Floats<Avx512> of(int64_t row, int64_t) const {
        const __m512 byte = _mm512_set1_ps(256.0f);
        const auto floats = [&](int64_t place) {
            return _mm512_cvtepi32_ps(_mm512_load_si512(sums + row * ROW + place * BLOCK));
        };
        __m512 sum = floats(0);
        for (int64_t place = 1; place < PLACES; ++place) sum = _mm512_fmadd_ps(sum, byte, floats(place));
        return _mm512_mul_ps(sum, _mm512_set1_ps(quantum));
    }
};

void extend(Extent& extent, const float* x, int64_t count) {
    __m512i most = _mm512_setzero_si512();
    __m512 sum = _mm512_setzero_ps();
    for (int64_t k = 0; k < count; k += LANES) {
        const __m512i bits = magnitudes_of(_mm512_maskz_loadu_epi32(first_lanes(count - k), x + k));
        most = _mm512_max_epu32(most, bits);
        sum = _mm512_add_ps(sum, _mm512_castsi512_ps(bits));
    }
    const uint32_t largest = _mm512_reduce_max_epu32(most);
    extent.largest = largest > extent.largest ? largest : extent.largest;
    extent.sum += _mm512_reduce_add_ps(sum);
}

void put_digits(const float* x, int64_t count, float inverse, uint8_t* to) {
    const __m512i places = _mm512_load_si512(THREE_BYTES.of);
    const __m512 factor = _mm512_set1_ps(inverse);
    for (int64_t k = 0; k < count; k += LANES) {
        const __m512i digits = digits_of(_mm512_maskz_loadu_ps(first_lanes(count - k), x + k), factor);
        const uint64_t bytes = ~uint64_t{0} >> (64 - DIGITS * least(LANES, count - k));
        _mm512_mask_storeu_epi8(to + DIGITS * k, bytes, _mm512_permutexvar_epi8(places, digits));
    }
}

void put_digits_of_planes(const float* x, int64_t channels, int64_t apart, int64_t count, float inverse, uint8_t* to) {
    const __m512 factor = _mm512_set1_ps(inverse);
    alignas(64) uint32_t digits[LANES];
    for (int64_t k = 0; k < count; k += LANES) {
        const int64_t pixels = least(LANES, count - k);
        if (channels == 3 && pixels == LANES) {
            put_colours(x + k, apart, factor, to + k * channels * DIGITS);
            continue;
        }
        for (int64_t c = 0; c < channels; ++c) {
            const __m512 of_plane = _mm512_maskz_loadu_ps(first_lanes(pixels), x + c * apart + k);
            _mm512_store_si512(digits, digits_of(of_plane, factor));
            uint8_t* const bytes = to + (k * channels + c) * DIGITS;
            for (int64_t i = 0; i < pixels; ++i) std::memcpy(bytes + i * channels * DIGITS, digits + i, DIGITS);
        }
    }
}

void multiply_digits(const ByteRows& rows, const int8_t* panels, const Outputs& then) {
    static_assert(PLACES == BLOCKS && ROW == TILE);
    const ConfiguredTiles configured(most_fours(rows));
    const int64_t apart = PLACES * block_bytes(rows.step_count);
    for (int64_t channel = 0; channel < then.channels; channel += BLOCK, panels += apart) {
        const auto multiply = [&](int64_t row, int32_t* sums) {
            multiply_tile<Factors::SIGNED_BYTES, PLACES>(rows, row, panels, sums);
        };
        const auto put = [&](int64_t row, const int32_t* sums) {
            Outputs here = then;
            here.first += row;
            const int64_t count = least(BLOCK, rows.count - row), width = least(BLOCK, then.channels - channel);
            put_finished<Avx512, 1>(DigitSums{sums, *rows.quantum}, count, channel, width, here);
        };
        multiply_then_put<BLOCK * ROW>(rows.count, BLOCK, multiply, put);
    }
}

}  // namespace

const DigitKernels digit_kernels = {extend, put_digits, put_digits_of_planes, multiply_digits};

}  // namespace proxconnect
