// AVX-512. VNNI multiplies four pairs of bytes for each output in one instruction.
#include "int8/byte_vectors.hpp"
#include "int8/inputs.hpp"
#include "int8/outputs.hpp"
#include "isa/avx512.hpp"

namespace proxconnect {
namespace {

// How the first 1 to 4 bytes of each word become adjacent: the places of bytes of each quarter of a vector, then the
// places of words. (VBMI has one instruction for both, but Cascade Lake lacks it.) Functions of a std::array would have
// linkage.
struct alignas(64) FirstBytes {
    uint8_t bytes[4][64] = {};
    uint32_t words[4][16] = {};

    constexpr FirstBytes() {
        for (int count = 1; count <= 4; ++count) {
            for (int i = 0; i < 64; ++i) {
                const int at = i % 16;
                bytes[count - 1][i] = static_cast<uint8_t>(at < 4 * count ? at / count * 4 + at % count : 0);
            }
            for (int i = 0; i < 4 * count; ++i) words[count - 1][i] = static_cast<uint32_t>(i / count * 4 + i % count);
        }
    }
};
constexpr FirstBytes FIRST_BYTES;

struct Vnni : Avx512 {
    using Vector = __m512i;
    static constexpr int64_t vector_outputs = 16;

    static void put_pixels(const Words<Vnni>& words, int64_t channels, int64_t count, uint8_t* to) {
        const __m512i places = _mm512_load_si512(FIRST_BYTES.words[channels - 1]);
        const __m512i first = _mm512_shuffle_epi8((__m512i)words, _mm512_load_si512(FIRST_BYTES.bytes[channels - 1]));
        const __m512i bytes = _mm512_permutexvar_epi32(places, first);
        _mm512_mask_storeu_epi8(to, ~uint64_t{0} >> (64 - channels * count), bytes);
    }

    static Vector zero() { return _mm512_setzero_si512(); }
    static Vector load(const void* from) { return _mm512_loadu_si512(from); }
    static void store(void* to, Vector v) { _mm512_storeu_si512(to, v); }
    static Vector broadcast(int32_t four) { return _mm512_set1_epi32(four); }

    // With an intrinsic, GCC 12 keeps the sums in memory.
    static Vector add_products(Vector sums, Vector x, Vector weight) {
        asm("vpdpbusd %2, %1, %0" : "+v"(sums) : "v"(x), "v"(weight));
        return sums;
    }

    static void add(const ByteRows& rows, const int8_t* panels, int64_t blocks, int32_t* sums) {
        switch (blocks) {
            case 1: return add_rows<Vnni, 1>(rows, panels, sums);
            case 2: return add_rows<Vnni, 2>(rows, panels, sums);
            case 3: return add_rows<Vnni, 3>(rows, panels, sums);
            default: return add_rows<Vnni, BLOCKS>(rows, panels, sums);
        }
    }
};

}  // namespace

const Int8Kernels avx512_int8 = {
    round_bytes, round_planes<Vnni>, mean<Vnni>,      multiply_bytes<Vnni>,
    Vnni::add,   finish_sums<Vnni>,  pool_sums<Vnni>, nullptr,
};

}  // namespace proxconnect
