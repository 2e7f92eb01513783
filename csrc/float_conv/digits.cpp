#include "float_conv/digits.hpp"

#include "isa/amx.hpp"

#if defined(PROXCONNECT_HAS_TILES)

#include <immintrin.h>

#include "epilogue/finished_numbers.hpp"

namespace proxconnect {
namespace {

constexpr int64_t LANES = 16, ROW = PLACES * BLOCK;  // the sums of a row, those of the highest place first

struct Avx512 {
    static constexpr int outputs = 16;

    static Floats<Avx512> fma(Floats<Avx512> a, Floats<Avx512> b, Floats<Avx512> c) { return _mm512_fmadd_ps(a, b, c); }
};

__mmask16 first_of(int64_t count) {
    return count >= LANES ? 0xffff : static_cast<__mmask16>((1 << count) - 1);
}

// The digits of sixteen numbers, in the first three bytes of each.
__m512i digits_of(__m512 x, __m512 inverse) {
    const __m512i whole = _mm512_cvtps_epi32(_mm512_mul_ps(x, inverse)), halves = _mm512_set1_epi32(0x808080);
    return _mm512_xor_si512(_mm512_add_epi32(whole, halves), halves);
}

// Where three bytes of each word lie, word after word. No std::array, whose functions have linkage.
struct alignas(64) ThreeBytes {
    uint8_t of[64] = {};

    constexpr ThreeBytes() {
        for (int i = 0; i < 48; ++i) of[i] = static_cast<uint8_t>(i / 3 * 4 + i % 3);
    }
};
constexpr ThreeBytes THREE_BYTES;

// Where the digits of sixteen pixels of three planes lie, 48 bytes at a time, in the vectors of the first two planes,
// or where a mask has a bit in that of the third.
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

// The digits of sixteen pixels of three planes, as images of colours have.
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

// What the sums of a tile's rows stand for.
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

// The sums of 16 rows with a block of the weight, a place in a tile.
void multiply_tile(const ByteRows& rows, const uint8_t* x, const int8_t* panels, int32_t* sums) {
    const int64_t apart = block_bytes(rows.step_count);
    constexpr int64_t PITCH = ROW * sizeof(int32_t);
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (int64_t j = 0; j < rows.step_count; ++j, panels += STEP_BYTES) {
        _tile_loadd(4, x + rows.steps[j].at, rows.stride);
        _tile_loadd(5, panels, 64);
        _tile_dpbssd(0, 4, 5);
        _tile_loadd(6, panels + apart, 64);
        _tile_dpbssd(1, 4, 6);
        _tile_loadd(5, panels + 2 * apart, 64);
        _tile_dpbssd(2, 4, 5);
        _tile_loadd(6, panels + 3 * apart, 64);
        _tile_dpbssd(3, 4, 6);
    }
    _tile_stored(0, sums, PITCH);
    _tile_stored(1, sums + BLOCK, PITCH);
    _tile_stored(2, sums + 2 * BLOCK, PITCH);
    _tile_stored(3, sums + 3 * BLOCK, PITCH);
}

}  // namespace

void extend(Extent& extent, const float* x, int64_t count) {
    const __m512i magnitude = _mm512_set1_epi32(0x7fffffff);
    __m512i most = _mm512_setzero_si512();
    __m512 sum = _mm512_setzero_ps();
    for (int64_t k = 0; k < count; k += LANES) {
        const __m512i bits = _mm512_and_si512(_mm512_maskz_loadu_epi32(first_of(count - k), x + k), magnitude);
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
        const __m512i digits = digits_of(_mm512_maskz_loadu_ps(first_of(count - k), x + k), factor);
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
            const __m512 of_plane = _mm512_maskz_loadu_ps(first_of(pixels), x + c * apart + k);
            _mm512_store_si512(digits, digits_of(of_plane, factor));
            uint8_t* const bytes = to + (k * channels + c) * DIGITS;
            for (int64_t i = 0; i < pixels; ++i) std::memcpy(bytes + i * channels * DIGITS, digits + i, DIGITS);
        }
    }
}

void multiply_digits(const ByteRows& rows, const int8_t* panels, const Outputs& then) {
    const int64_t apart = PLACES * block_bytes(rows.step_count);
    alignas(64) int32_t sums[2][BLOCK * ROW];
    for (int64_t channel = 0; channel < then.channels; channel += BLOCK, panels += apart) {
        const auto put = [&](const int32_t* from, int64_t row) {
            Outputs here = then;
            here.first += row;
            const int64_t count = least(BLOCK, rows.count - row), width = least(BLOCK, then.channels - channel);
            put_finished<Avx512, 1>(DigitSums{from, *rows.quantum}, count, channel, width, here);
        };
        // The sums of a tile are written after the products of the next, for they take a while to arrive.
        int64_t r = 0;
        for (int which = 0; r < rows.count; r += BLOCK, which ^= 1) {
            multiply_tile(rows, rows.x + r * rows.stride, panels, sums[which]);
            if (r > 0) put(sums[which ^ 1], r - BLOCK);
        }
        put(sums[(r / BLOCK - 1) % 2], r - BLOCK);
    }
}

DigitTiles::DigitTiles(const Stretch* steps, int64_t count) {
    int64_t fours = 1;
    for (int64_t j = 0; j < count; ++j) fours = most(fours, steps[j].fours);
    TileConfiguration configuration;
    configuration.bytes[4] = static_cast<uint16_t>(4 * fours);
    configuration.rows[5] = configuration.rows[6] = static_cast<uint8_t>(fours);
    _tile_loadconfig(&configuration);
}

DigitTiles::~DigitTiles() { _tile_release(); }

}  // namespace proxconnect

#else

namespace proxconnect {

void extend(Extent&, const float*, int64_t) {}
void put_digits(const float*, int64_t, float, uint8_t*) {}
void put_digits_of_planes(const float*, int64_t, int64_t, int64_t, float, uint8_t*) {}
void multiply_digits(const ByteRows&, const int8_t*, const Outputs&) {}
DigitTiles::DigitTiles(const Stretch*, int64_t) {}
DigitTiles::~DigitTiles() {}

}  // namespace proxconnect

#endif
