#include "float_sign/amx.hpp"

#include "isa/amx.hpp"

#if defined(PROXCONNECT_HAS_TILES)

#include <immintrin.h>

#include "epilogue/steps.hpp"

namespace proxconnect {
namespace {

constexpr int64_t TILE = 16, BLOCK = 2 * TILE, WORD = 64, LANES = 16;
constexpr int64_t TILE_BYTES = TILE * WORD, PITCH = BLOCK * sizeof(int32_t), PLANES = 3;

struct Avx512 {
    static constexpr int outputs = 16;

    static Floats<Avx512> fma(Floats<Avx512> a, Floats<Avx512> b, Floats<Avx512> c) { return _mm512_fmadd_ps(a, b, c); }
};

__mmask16 first_of(int64_t count) {
    return count >= LANES ? 0xffff : count <= 0 ? 0 : static_cast<__mmask16>((1 << count) - 1);
}

uint32_t largest_of(const float* x, int64_t count) {
    const __m512i magnitude = _mm512_set1_epi32(0x7fffffff);
    __m512i most[2] = {};
    int64_t k = 0;
    for (; k + 2 * LANES <= count; k += 2 * LANES) {
        for (int i = 0; i < 2; ++i) {
            const __m512i bits = _mm512_loadu_si512(x + k + i * LANES);
            most[i] = _mm512_max_epu32(most[i], _mm512_and_si512(bits, magnitude));
        }
    }
    for (; k < count; k += LANES) {
        const __m512i bits = _mm512_maskz_loadu_epi32(first_of(count - k), x + k);
        most[0] = _mm512_max_epu32(most[0], _mm512_and_si512(bits, magnitude));
    }
    return _mm512_reduce_max_epu32(_mm512_max_epu32(most[0], most[1]));
}

// Rows as bytes, plane by plane, the highest first, which alone has a sign; zeros up to whole words. steps[r] is what a
// sum of row r is multiplied by.
struct Bytes {
    int8_t* planes;
    float* steps;
    int64_t rows, words;  // of a plane

    // A word of a row. Tiles follow each other word by word, as caches like it.
    int8_t* at(int64_t plane, int64_t r, int64_t word = 0) const {
        const int64_t tile = (plane * ceil_div(rows, TILE) + r / TILE) * words + word;
        return planes + tile * TILE_BYTES + r % TILE * WORD;
    }
};

// Sixteen bytes of each of four vectors in the order in which `_mm512_packs_epi16` and the like leave their fours.
__m512i in_order(__m512i fours) {
    const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    return _mm512_permutexvar_epi32(order, fours);
}

// Calls put(word, whole numbers) for 64 entries at a time, which become those nearest to x·inverse.
template <class Put>
void each_word(const float* x, int64_t entries, float inverse, const Put& put) {
    const __m512 factor = _mm512_set1_ps(inverse);
    const auto whole = [&](__m512 v) { return _mm512_cvtps_epi32(_mm512_mul_ps(v, factor)); };
    int64_t k = 0;
    __m512i v[4];
    for (; k + WORD <= entries; k += WORD) {
        for (int i = 0; i < 4; ++i) v[i] = whole(_mm512_loadu_ps(x + k + i * LANES));
        put(k / WORD, v);
    }
    if (k == entries) return;
    for (int i = 0; i < 4; ++i) {
        const int64_t at = k + i * LANES;
        v[i] = whole(_mm512_maskz_loadu_ps(first_of(entries - at), x + at));
    }
    put(k / WORD, v);
}

struct Rounded {
    static constexpr int planes = 1;

    static bool fill(const float* x, int64_t entries, const Bytes& to, int64_t r) {
        const Quantum quantum = quantum_of(largest_of(x, entries));
        to.steps[r] = quantum.step;
        each_word(x, entries, quantum.inverse, [&](int64_t word, const __m512i (&v)[4]) {
            const __m512i low = _mm512_packs_epi32(v[0], v[1]), high = _mm512_packs_epi32(v[2], v[3]);
            _mm512_store_si512(to.at(0, r, word), in_order(_mm512_packs_epi16(low, high)));
        });
        return true;
    }

    static __m512 sum(const int32_t* sums) { return _mm512_cvtepi32_ps(_mm512_load_si512(sums)); }
};

struct Exact {
    static constexpr int planes = PLANES;

    static bool fill(const float* x, int64_t entries, const Bytes& to, int64_t r) {
        constexpr uint32_t EXPONENT = 0x7f800000, LEAST = 0x0d800000;  // 2^-100, whose inverse step is finite
        const uint32_t largest = largest_of(x, entries), power = largest > LEAST ? largest & EXPONENT : LEAST;
        if (power == EXPONENT || (largest < LEAST && largest != 0)) return false;
        const uint32_t step_bits = power - (22u << 23), inverse_bits = (254u << 23) - step_bits;
        float inverse;
        std::memcpy(&inverse, &inverse_bits, sizeof inverse);
        std::memcpy(to.steps + r, &step_bits, sizeof step_bits);
        each_word(x, entries, inverse, [&](int64_t word, const __m512i (&v)[4]) {
            put_planes(v, to.at(0, r, word), to.at(1, r, word), to.at(2, r, word));
        });
        return true;
    }

    // The bytes of 64 numbers but the highest, which repeats their sign.
    static void put_planes(const __m512i (&v)[4], int8_t* high, int8_t* middle, int8_t* low) {
        const __m512i most = _mm512_set1_epi32((1 << 23) - 1);  // the largest may have been rounded up to one more
        const __m512i by_place = _mm512_broadcast_i32x4(
            _mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15));
        __m512i bytes[4];
        for (int i = 0; i < 4; ++i) bytes[i] = _mm512_shuffle_epi8(_mm512_min_epi32(v[i], most), by_place);
        const __m512i lows[2] = {_mm512_unpacklo_epi32(bytes[0], bytes[1]), _mm512_unpacklo_epi32(bytes[2], bytes[3])};
        const __m512i highs[2] = {_mm512_unpackhi_epi32(bytes[0], bytes[1]), _mm512_unpackhi_epi32(bytes[2], bytes[3])};
        _mm512_store_si512(low, in_order(_mm512_unpacklo_epi64(lows[0], lows[1])));
        _mm512_store_si512(middle, in_order(_mm512_unpackhi_epi64(lows[0], lows[1])));
        _mm512_store_si512(high, in_order(_mm512_unpacklo_epi64(highs[0], highs[1])));
    }

    static __m512 sum(const int32_t* sums) {
        constexpr int64_t PLANE = BLOCK * BLOCK;
        const __m512i high = _mm512_load_si512(sums), middle = _mm512_load_si512(sums + PLANE);
        const __m512i rest = _mm512_add_epi32(_mm512_slli_epi32(middle, 8), _mm512_load_si512(sums + 2 * PLANE));
        return _mm512_fmadd_ps(_mm512_cvtepi32_ps(high), _mm512_set1_ps(65536.0f), _mm512_cvtepi32_ps(rest));
    }
};

// A word of two panels as a tile of ±1: four entries of 16 outputs together.
void spread(const uint64_t* low, const uint64_t* high, int8_t* to) {
    const __m512i even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
    const __m512i a = _mm512_loadu_si512(low), b = _mm512_loadu_si512(high);
    const __m512i one = _mm512_set1_epi8(1), two = _mm512_set1_epi8(2);
    for (int half = 0; half < 2; ++half) {
        const __m512i bits = _mm512_permutex2var_epi32(a, _mm512_add_epi32(even, _mm512_set1_epi32(half)), b);
        __m512i places = _mm512_set1_epi64(0x2221201f0201003f);  // one before four bits of either half of 64
        for (int step = 0; step < 8; ++step, to += WORD) {
            const __m512i twice = _mm512_and_si512(_mm512_multishift_epi64_epi8(places, bits), two);
            _mm512_store_si512(to, _mm512_sub_epi8(twice, one));
            places = _mm512_add_epi8(places, _mm512_set1_epi8(4));
        }
    }
}

// Words [first, last), of so many, of panels [panel, panel + 4), of which those beyond the last are the last, as two
// tiles each.
void spread_block(const FloatOutputs& o, int64_t panel, int64_t words, int64_t first, int64_t last, int8_t* to) {
    const uint64_t* of[4];
    for (int64_t i = 0; i < 4; ++i) of[i] = o.panels + least(panel + i, o.last - 1) * words * PANEL;
    for (int64_t j = first; j < last; ++j, to += 2 * TILE_BYTES) {
        for (int64_t i = 0; i < 4; ++i) __builtin_prefetch(of[i] + (4 * words + j) * PANEL);  // of the next block
        spread(of[0] + j * PANEL, of[1] + j * PANEL, to);
        spread(of[2] + j * PANEL, of[3] + j * PANEL, to + TILE_BYTES);
    }
}

// Sums of 32 rows, or of the first 16 alone, and 32 outputs are tiles 0 to 3.
void zero_sums() {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
}

// Adds what so many words give; the second 16 rows begin at `second`.
template <bool HAS_SIGN>
void add_products(const int8_t* x, const int8_t* second, int64_t words, bool is_whole, const int8_t* weight) {
    for (int64_t j = 0; j < words; ++j, weight += 2 * TILE_BYTES) {
        _tile_loadd(4, x + j * TILE_BYTES, WORD);
        _tile_loadd(6, weight, WORD);
        _tile_loadd(7, weight + TILE_BYTES, WORD);
        if constexpr (HAS_SIGN) {
            _tile_dpbssd(0, 4, 6);
            _tile_dpbssd(1, 4, 7);
        } else {
            _tile_dpbusd(0, 4, 6);
            _tile_dpbusd(1, 4, 7);
        }
        if (!is_whole) continue;
        _tile_loadd(5, second + j * TILE_BYTES, WORD);
        if constexpr (HAS_SIGN) {
            _tile_dpbssd(2, 5, 6);
            _tile_dpbssd(3, 5, 7);
        } else {
            _tile_dpbusd(2, 5, 6);
            _tile_dpbusd(3, 5, 7);
        }
    }
}

void load_sums(bool is_whole, const int32_t* sums) {
    _tile_loadd(0, sums, PITCH);
    _tile_loadd(1, sums + TILE, PITCH);
    if (!is_whole) return;
    _tile_loadd(2, sums + TILE * BLOCK, PITCH);
    _tile_loadd(3, sums + TILE * BLOCK + TILE, PITCH);
}

void store_sums(bool is_whole, int32_t* sums) {
    _tile_stored(0, sums, PITCH);
    _tile_stored(1, sums + TILE, PITCH);
    if (!is_whole) return;
    _tile_stored(2, sums + TILE * BLOCK, PITCH);
    _tile_stored(3, sums + TILE * BLOCK + TILE, PITCH);
}

// What the outputs of a block are scaled and shifted by, 0 beyond the last.
struct alignas(64) BlockAffine {
    float scale[BLOCK], bias[BLOCK] = {};

    BlockAffine(const Affine& of, int64_t at, int64_t count) {
        for (float& value : scale) value = of.scales == 1 ? *of.scale : 1.0f;
        const size_t bytes = static_cast<size_t>(count) * sizeof(float);
        if (of.scales > 1) std::memcpy(scale, of.scale + at, bytes);
        if (of.bias != nullptr) std::memcpy(bias, of.bias + at, bytes);
    }
};

// `count` rows of a block of sums as outputs, from row `row` and output `at` on.
template <class Form>
struct Writer {
    const FloatOutputs& o;
    const Bytes& bytes;
    int64_t at;
    BlockAffine affine;

    Writer(const FloatOutputs& outputs, const Bytes& rows, int64_t panel)
        : o(outputs), bytes(rows), at(panel * PANEL), affine(o.affine, at, width()) {}

    int64_t width() const { return least(BLOCK, least(o.n, o.last * PANEL) - at); }

    template <int ROWS>
    void put_rows(const int32_t* sums, int64_t row) const {
        Block<Avx512, ROWS, BLOCK> block;
        block.channel = at;
        block.fill([&](int r, int part) {
            const __m512 sum = Form::sum(sums + r * BLOCK + part * LANES);
            const __m512 product = _mm512_mul_ps(sum, _mm512_set1_ps(bytes.steps[row + r]));
            const __m512 scaled = _mm512_mul_ps(product, _mm512_load_ps(affine.scale + part * LANES));
            return (Floats<Avx512>)_mm512_add_ps(scaled, _mm512_load_ps(affine.bias + part * LANES));
        });
        float* to[ROWS];
        for (int r = 0; r < ROWS; ++r) to[r] = o.y + (row + r) * o.stride + at;
        if (o.then == nullptr) return block.store(to, width());
        int64_t places[ROWS];
        for (int r = 0; r < ROWS; ++r) places[r] = to[r] - o.then->y;
        finish(block, *o.then, places, width());
    }

    void put(const int32_t* sums, int64_t row) const {
        const int64_t count = least(BLOCK, bytes.rows - row);
        int64_t r = 0;
        for (; r + 4 <= count; r += 4) put_rows<4>(sums + r * BLOCK, row + r);
        for (; r < count; ++r) put_rows<1>(sums + r * BLOCK, row + r);
    }
};

template <bool HAS_SIGN>
void multiply_block(const Bytes& bytes, int64_t plane, int64_t row, const int8_t* weight, int32_t* sums) {
    const bool is_whole = bytes.rows - row > TILE;
    zero_sums();
    add_products<HAS_SIGN>(bytes.at(plane, row), bytes.at(plane, row + TILE), bytes.words, is_whole, weight);
    store_sums(is_whole, sums);
}

// The sums of a block are written after the products of the next, for they take a while to arrive.
template <class Form>
void multiply_rows(const Bytes& bytes, const FloatOutputs& o, int8_t* weight) {
    alignas(64) int32_t sums[2][PLANES * BLOCK * BLOCK];
    for (int64_t panel = o.first; panel < o.last; panel += BLOCK / PANEL) {
        spread_block(o, panel, bytes.words, 0, bytes.words, weight);
        const Writer<Form> writer(o, bytes, panel);
        int64_t row = 0;
        for (int which = 0; row < bytes.rows; row += BLOCK, which ^= 1) {
            multiply_block<true>(bytes, 0, row, weight, sums[which]);
            for (int plane = 1; plane < Form::planes; ++plane) {
                multiply_block<false>(bytes, plane, row, weight, sums[which] + plane * BLOCK * BLOCK);
            }
            if (row > 0) writer.put(sums[which ^ 1], row - BLOCK);
        }
        writer.put(sums[(row / BLOCK - 1) % 2], row - BLOCK);
    }
}

// The same for one block of rows, which meets the weight once: that is spread a few words at a time, which stay in the
// first cache until then. The sums of one plane alone stay in their tiles.
template <class Form>
void multiply_few(const Bytes& bytes, const FloatOutputs& o, int8_t* weight) {
    constexpr int64_t WORDS = 8;
    constexpr bool STAYS = Form::planes == 1;
    const bool is_whole = bytes.rows > TILE;
    alignas(64) int32_t sums[Form::planes][BLOCK * BLOCK];
    for (int64_t panel = o.first; panel < o.last; panel += BLOCK / PANEL) {
        for (int64_t j = 0; j < bytes.words; j += WORDS) {
            const int64_t end = least(j + WORDS, bytes.words);
            spread_block(o, panel, bytes.words, j, end, weight);
            for (int plane = 0; plane < Form::planes; ++plane) {
                if (j == 0) zero_sums();
                else if (!STAYS) load_sums(is_whole, sums[plane]);
                const auto add = plane == 0 ? add_products<true> : add_products<false>;
                add(bytes.at(plane, 0, j), bytes.at(plane, TILE, j), end - j, is_whole, weight);
                if (!STAYS || end == bytes.words) store_sums(is_whole, sums[plane]);
            }
        }
        Writer<Form>(o, bytes, panel).put(sums[0], 0);
    }
}

template <class Form>
bool multiply(const FloatRows& rows, const FloatOutputs& o, uint8_t* unfit) {
    constexpr int64_t IN_CACHE = 1 << 20;  // bytes of rows, but no fewer rows than make up for spreading the weight
    const int64_t words = words_of(rows.entries), row_bytes = Form::planes * words * WORD;
    const int64_t at_once = least(rows.count, most(256, IN_CACHE / row_bytes) / BLOCK * BLOCK);
    auto* const planes = static_cast<int8_t*>(scratch<Form>(ceil_div(at_once, TILE) * TILE * row_bytes));
    auto* const steps = static_cast<float*>(scratch<Bytes>(at_once * sizeof(float)));
    auto* const weight = static_cast<int8_t*>(scratch<Writer<Form>>(words * 2 * TILE_BYTES));
    bool has_unfit = false;
    const TileConfiguration configuration;
    _tile_loadconfig(&configuration);
    for (int64_t row = 0; row < rows.count; row += at_once) {
        const Bytes bytes = {planes, steps, least(at_once, rows.count - row), words};
        for (int64_t r = 0; r < bytes.rows; ++r) {
            const bool is_fit = Form::fill(rows.x + (row + r) * rows.stride, rows.entries, bytes, r);
            unfit[row + r] = !is_fit, has_unfit |= !is_fit;
        }
        const auto multiply_all = bytes.rows <= BLOCK ? multiply_few<Form> : multiply_rows<Form>;
        multiply_all(bytes, from_row(o, row), weight);
    }
    _tile_release();
    return has_unfit;
}

}  // namespace

bool is_for_amx(const FloatRows& rows) {
    constexpr int64_t FEW = 8, MOST = 1 << 15;  // rows that tables do as fast; entries whose sums 32 bits hold
    return rows.count >= (rows.rounds ? 1 : FEW) && rows.entries <= MOST;
}

bool multiply_by_amx(const FloatRows& rows, const FloatOutputs& outputs, uint8_t* unfit) {
    return rows.rounds ? multiply<Rounded>(rows, outputs, unfit) : multiply<Exact>(rows, outputs, unfit);
}

}  // namespace proxconnect

#else

namespace proxconnect {

bool is_for_amx(const FloatRows&) { return false; }
bool multiply_by_amx(const FloatRows&, const FloatOutputs&, uint8_t*) { return false; }

}  // namespace proxconnect

#endif
