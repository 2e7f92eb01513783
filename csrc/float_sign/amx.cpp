// Products of rows of floats with a binary weight by AMX. An entry becomes the nearest whole number of steps, which has
// three bytes, so that sums of bytes are exact. The step is 2^-22 times the power of two at or below the row's largest
// entry. Rows without such a step go to AVX-512's tables, rounded rows to int8 products.
#include "epilogue/finished_numbers.hpp"
#include "float_sign/kernels.hpp"
#include "isa/amx.hpp"
#include "isa/avx512.hpp"
#include "isa/tile_products.hpp"

namespace proxconnect {
namespace {

constexpr int64_t BLOCK = 2 * TILE_ROWS, WORD = TILE_ROW_BYTES, LANES = 16;  // BLOCK rows by BLOCK outputs at once
constexpr int64_t PLANES = 3, SUMS = BLOCK * BLOCK;                           // of a plane

// Rows as bytes, padded with zeros to whole words, plane by plane. The highest plane is first, and alone is signed.
// Sums of row r are multiplied by steps[r].
struct Bytes {
    int8_t* planes;
    float* steps;
    int64_t rows, words;  // of a plane

    // Return a word of a row. Tiles are adjacent word by word, which suits caches.
    int8_t* at(int64_t plane, int64_t r, int64_t word = 0) const {
        const int64_t tile = (plane * ceil_div(rows, TILE_ROWS) + r / TILE_ROWS) * words + word;
        return planes + tile * TILE_BYTES + r % TILE_ROWS * WORD;
    }
};

// Put sixteen bytes of each of four vectors in order, after they were unpacked.
__m512i in_order(__m512i fours) {
    const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    return _mm512_permutexvar_epi32(order, fours);
}

// Write the three lower bytes of 64 numbers. The highest byte repeats their sign.
void put_planes(const __m512i (&v)[4], int8_t* high, int8_t* middle, int8_t* low) {
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

// Write row r as bytes. Return false if it has no step.
bool fill(const float* x, int64_t entries, const Bytes& to, int64_t r) {
    constexpr uint32_t EXPONENT = 0x7f800000, LEAST = 0x0d800000;  // 2^-100, whose inverse step is finite
    const uint32_t largest = proxconnect::largest(x, entries), power = largest > LEAST ? largest & EXPONENT : LEAST;
    if (power == EXPONENT || (largest < LEAST && largest != 0)) return false;
    const uint32_t step_bits = power - (22u << 23), inverse_bits = (254u << 23) - step_bits;
    float inverse;
    std::memcpy(&inverse, &inverse_bits, sizeof inverse);
    std::memcpy(to.steps + r, &step_bits, sizeof step_bits);
    const __m512 factor = _mm512_set1_ps(inverse);
    for (int64_t word = 0; word < to.words; ++word) {
        __m512i whole[4];
        for (int64_t i = 0; i < 4; ++i) {
            const int64_t at = word * WORD + i * LANES;
            const __m512 floats = _mm512_maskz_loadu_ps(first_lanes(entries - at), x + at);
            whole[i] = _mm512_cvtps_epi32(_mm512_mul_ps(floats, factor));
        }
        put_planes(whole, to.at(0, r, word), to.at(1, r, word), to.at(2, r, word));
    }
    return true;
}

// Spread words [first, last) of panels [panel, panel + 4), as two tiles each. The last panel stands for those beyond
// it. `words` is the number of words of a row.
void spread_block(const FloatOutputs& o, int64_t panel, int64_t words, int64_t first, int64_t last, int8_t* to) {
    const uint64_t* of[4];
    for (int64_t i = 0; i < 4; ++i) of[i] = o.panels + least(panel + i, o.last - 1) * words * PANEL;
    for (int64_t j = first; j < last; ++j, to += 2 * TILE_BYTES) {
        for (int64_t i = 0; i < 4; ++i) __builtin_prefetch(of[i] + (4 * words + j) * PANEL);  // of the next block
        for (int64_t i = 0; i < 4; i += 2) {
            const __m512i low = _mm512_loadu_si512(of[i] + j * PANEL), high = _mm512_loadu_si512(of[i + 1] + j * PANEL);
            spread_panels(low, high, fours_of_bits(-1, 1), to + i / 2 * TILE_BYTES, WORD);
        }
    }
}

// Words as steps: one or two tiles of rows and two tiles of the weight for each.
struct WordSteps {
    const int8_t *x, *weight;
    int64_t apart;  // from the first tile of rows to the second

    FactorTiles rows(int64_t j) const { return {x + j * TILE_BYTES, WORD, apart}; }
    FactorTiles columns(int64_t j) const { return {weight + 2 * j * TILE_BYTES, WORD, TILE_BYTES}; }
};

// The numbers that a block of sums represents, plane by plane.
struct PlaneSums {
    const int32_t* sums;
    const float* steps;

    Floats<Avx512> of(int64_t row, int64_t c) const {
        const int32_t* const at = sums + row * BLOCK + c;
        const __m512i high = _mm512_load_si512(at), middle = _mm512_load_si512(at + SUMS);
        const __m512i rest = _mm512_add_epi32(_mm512_slli_epi32(middle, 8), _mm512_load_si512(at + 2 * SUMS));
        const __m512 whole = _mm512_fmadd_ps(_mm512_cvtepi32_ps(high), _mm512_set1_ps(65536.0f),
                                             _mm512_cvtepi32_ps(rest));
        return _mm512_mul_ps(whole, _mm512_set1_ps(steps[row]));
    }
};

// Write the outputs of a block of sums, from row `row` on.
void put(const Bytes& bytes, const FloatOutputs& o, int64_t panel, int64_t row, const int32_t* sums) {
    const int64_t at = panel * PANEL, width = least(BLOCK, least(o.n, o.last * PANEL) - at), channel = o.channel + at;
    const int64_t count = least(BLOCK, bytes.rows - row);
    const PlaneSums numbers = {sums, bytes.steps + row};
    Outputs here = o.then;
    here.first += o.row + row;
    put_finished<Avx512, BLOCK / LANES>(numbers, count, channel, width, here);
}

// Sum up to 32 rows from `row` on with a block of the weight, over words [first, last). Add to `sums` unless these
// words are the first. Only the first plane is signed.
template <Factors FACTORS, int ROWS>
void multiply_plane(const Bytes& bytes, int64_t plane, int64_t row, int64_t first, int64_t last, const int8_t* weight,
                    int32_t* sums) {
    using Sums = TileSums<FACTORS, ROWS, 2>;
    const SumTiles place = sum_tiles(sums, BLOCK);
    if (first == 0) Sums::zero();
    else Sums::load(place);
    Sums::add_steps(WordSteps{bytes.at(plane, row, first), weight, bytes.words * TILE_BYTES}, 0, last - first);
    Sums::store(place);
}

void multiply_planes(const Bytes& bytes, int64_t row, int64_t first, int64_t last, const int8_t* weight,
                     int32_t* sums) {
    const bool is_whole = bytes.rows - row > TILE_ROWS;
    constexpr auto SIGNED = Factors::SIGNED_BYTES, UNSIGNED = Factors::UNSIGNED_BYTES;
    for (int64_t plane = 0; plane < PLANES; ++plane, sums += SUMS) {
        const auto highest = is_whole ? multiply_plane<SIGNED, 2> : multiply_plane<SIGNED, 1>;
        const auto other = is_whole ? multiply_plane<UNSIGNED, 2> : multiply_plane<UNSIGNED, 1>;
        (plane == 0 ? highest : other)(bytes, plane, row, first, last, weight, sums);
    }
}

void multiply_rows(const Bytes& bytes, const FloatOutputs& o, int8_t* weight) {
    for (int64_t panel = o.first; panel < o.last; panel += BLOCK / PANEL) {
        spread_block(o, panel, bytes.words, 0, bytes.words, weight);
        multiply_then_put<PLANES * SUMS>(
            bytes.rows, BLOCK,
            [&](int64_t row, int32_t* sums) { multiply_planes(bytes, row, 0, bytes.words, weight, sums); },
            [&](int64_t row, const int32_t* sums) { put(bytes, o, panel, row, sums); }
        );
    }
}

// The same for one block of rows. These meet the weight once, so a few words at a time are spread, and stay in the
// first cache until then.
void multiply_few(const Bytes& bytes, const FloatOutputs& o, int8_t* weight) {
    constexpr int64_t WORDS = 8;
    alignas(64) int32_t sums[PLANES * SUMS];
    for (int64_t panel = o.first; panel < o.last; panel += BLOCK / PANEL) {
        for (int64_t j = 0; j < bytes.words; j += WORDS) {
            const int64_t end = least(j + WORDS, bytes.words);
            spread_block(o, panel, bytes.words, j, end, weight);
            multiply_planes(bytes, 0, j, end, weight, sums);
        }
        put(bytes, o, panel, 0, sums);
    }
}

// Write the outputs of rows that have a step. Set unfit[r] for the others. Return true if there is one.
bool multiply_fit_rows(const FloatRows& rows, const FloatOutputs& o, uint8_t* unfit) {
    constexpr int64_t IN_CACHE = 1 << 20;  // bytes of rows, but no fewer rows than make up for spreading the weight
    const int64_t words = words_of(rows.entries), row_bytes = PLANES * words * WORD;
    const int64_t at_once = least(rows.count, most(256, IN_CACHE / row_bytes) / BLOCK * BLOCK);
    auto* const planes = scratch<int8_t, Bytes>(ceil_div(at_once, TILE_ROWS) * TILE_ROWS * row_bytes);
    auto* const steps = scratch<float, PlaneSums>(at_once);
    auto* const weight = scratch<int8_t, WordSteps>(words * 2 * TILE_BYTES);
    bool has_unfit = false;
    const ConfiguredTiles configured;
    for (int64_t row = 0; row < rows.count; row += at_once) {
        const Bytes bytes = {planes, steps, least(at_once, rows.count - row), words};
        for (int64_t r = 0; r < bytes.rows; ++r) {
            const bool is_fit = fill(rows.x + (row + r) * rows.stride, rows.entries, bytes, r);
            unfit[row + r] = !is_fit, has_unfit |= !is_fit;
        }
        const auto multiply_all = bytes.rows <= BLOCK ? multiply_few : multiply_rows;
        multiply_all(bytes, from_row(o, row), weight);
    }
    return has_unfit;
}

bool is_worth_it(const FloatRows& rows) {
    constexpr int64_t FEW = 8, MOST = 1 << 15;  // rows that tables do as fast; entries whose sums 32 bits hold
    return rows.count >= FEW && rows.entries <= MOST && !rows.rounds;
}

void multiply(const FloatRows& rows, const FloatOutputs& outputs) {
    if (!is_worth_it(rows) || outputs.then.output.group > 0) return avx512_weight_only.multiply(rows, outputs);
    auto* const unfit = scratch<uint8_t, WeightOnlyKernels>(rows.count);
    if (!multiply_fit_rows(rows, outputs, unfit)) return;
    for (int64_t r = 0; r < rows.count; ++r) {
        if (unfit[r] == 0) continue;
        FloatRows row = from_row(rows, r);
        row.count = 1;
        avx512_weight_only.multiply(row, from_row(outputs, r));
    }
}

}  // namespace

const WeightOnlyKernels amx_weight_only = {multiply, largest, nullptr, 1};

}  // namespace proxconnect
