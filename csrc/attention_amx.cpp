#include "attention_amx.hpp"

#if defined(__linux__) && defined(__AMX_BF16__)

#include <cpuid.h>
#include <immintrin.h>

#include <cmath>

#include "amx.hpp"
#include "bfloat_parts.hpp"
#include "scratch.hpp"

namespace proxconnect {
namespace {

constexpr int64_t ROWS_OF_TILE = 16, TILE_FLOATS = 256;
constexpr float LOG2_E = 1.44269504f;

bool has_bfloats() {
    unsigned a, b, c, d;
    return __get_cpuid_count(7, 0, &a, &b, &c, &d) != 0 && (d >> 22 & 1) != 0;
}

// Tiles 0 to 3 are sums, 4 and 5 the rows, 6 and 7 the columns.
template <int ROWS, int COLUMNS> void add_products() {
    _tile_dpbf16ps(0, 4, 6);
    if (COLUMNS > 1) _tile_dpbf16ps(1, 4, 7);
    if (ROWS > 1) _tile_dpbf16ps(2, 5, 6);
    if (ROWS > 1 && COLUMNS > 1) _tile_dpbf16ps(3, 5, 7);
}

template <int ROWS> void load_rows(const Parts& rows, int part, int64_t tile, int64_t step) {
    _tile_loadd(4, rows.at(part, tile, step), 64);
    if (ROWS > 1) _tile_loadd(5, rows.at(part, tile + 1, step), 64);
}

template <int COLUMNS> void load_columns(const Parts& columns, int part, int64_t tile, int64_t step) {
    _tile_loadd(6, columns.at(part, tile, step), 64);
    if (COLUMNS > 1) _tile_loadd(7, columns.at(part, tile + 1, step), 64);
}

// The sums of tiles of rows with tiles of columns, from `column` on, to tiles of floats, `across` in a row. From product
// to product one side changes, the other stays. Between products `beside` is called, whose vectors run while tiles do.
template <int ROWS, int COLUMNS, class Beside>
void multiply(const Parts& rows, const Parts& columns, int64_t column, float* sums, int64_t across, Beside& beside) {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    const auto add = [&] {
        add_products<ROWS, COLUMNS>();
        beside();
    };
    for (int64_t step = 0; step < rows.steps; ++step) {
        load_rows<ROWS>(rows, 0, 0, step);
        load_columns<COLUMNS>(columns, 2, column, step);
        add();
        load_columns<COLUMNS>(columns, 1, column, step);
        add();
        load_rows<ROWS>(rows, 1, 0, step);
        add();
        load_columns<COLUMNS>(columns, 0, column, step);
        add();
        load_rows<ROWS>(rows, 2, 0, step);
        add();
        load_rows<ROWS>(rows, 0, 0, step);
        add();
    }
    float* const to = sums + column * TILE_FLOATS;
    _tile_stored(0, to, 64);
    if (COLUMNS > 1) _tile_stored(1, to + TILE_FLOATS, 64);
    if (ROWS > 1) _tile_stored(2, to + across * TILE_FLOATS, 64);
    if (ROWS > 1 && COLUMNS > 1) _tile_stored(3, to + (across + 1) * TILE_FLOATS, 64);
}

// The number of calls of `beside` that a tile or two of rows times all columns make.
int64_t calls_beside(const Parts& columns) { return ceil_div(columns.tiles, 2) * columns.steps * 6; }

template <int ROWS, class Beside>
void multiply_all(const Parts& rows, const Parts& columns, float* sums, int64_t across, Beside& beside) {
    int64_t column = 0;
    for (; column + 2 <= columns.tiles; column += 2) {
        multiply<ROWS, 2>(rows, columns, column, sums, across, beside);
    }
    if (column < columns.tiles) multiply<ROWS, 1>(rows, columns, column, sums, across, beside);
}

// Up to two tiles of rows times all columns.
template <class Beside>
void multiply_all(int64_t row_tiles, const Parts& rows, const Parts& columns, float* sums, int64_t across,
                  Beside& beside) {
    if (row_tiles > 1) return multiply_all<2>(rows, columns, sums, across, beside);
    multiply_all<1>(rows, columns, sums, across, beside);
}

// x = 2^(x · factor - top), for whole `top`, to two ulps, and 2^-125 below; both magnitudes are below 2^20. All vectors
// side by side, since each alone is a long chain.
template <int COUNT> void power_of_two(__m512* x, float factor, float top) {
    constexpr float rounder = 12582912.0f;  // 1.5·2^23: what is added to it becomes an integer
    // (2^r - 1)/r for |r| <= 1/2, fitted for the least relative error of 2^r, which is 1.1e-7.
    constexpr float polynomial[] = {0.00132647599f, 0.00967153534f, 0.0555073395f, 0.240222424f, 0.693147004f, 1.0f};
    const __m512 factors = _mm512_set1_ps(factor), start = _mm512_set1_ps(rounder - top);
    __m512 whole[COUNT], power[COUNT];
    for (int i = 0; i < COUNT; ++i) whole[i] = _mm512_fmadd_ps(x[i], factors, start);
    for (int i = 0; i < COUNT; ++i) x[i] = _mm512_fmsub_ps(x[i], factors, _mm512_sub_ps(whole[i], start));
    for (int i = 0; i < COUNT; ++i) power[i] = _mm512_set1_ps(polynomial[0]);
    for (int j = 1; j < 6; ++j) {
        for (int i = 0; i < COUNT; ++i) power[i] = _mm512_fmadd_ps(x[i], power[i], _mm512_set1_ps(polynomial[j]));
    }
    for (int i = 0; i < COUNT; ++i) {
        whole[i] = _mm512_max_ps(whole[i], _mm512_set1_ps(rounder - 125.0f));
        const __m512i exponent = _mm512_slli_epi32(_mm512_castps_si512(whole[i]), 23);
        x[i] = _mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(power[i]), exponent));
    }
}

// Where a row of 16 begins in tiles of floats, `across` in a row.
inline int64_t place(int64_t row, int64_t across) {
    return row / ROWS_OF_TILE * across * TILE_FLOATS + row % ROWS_OF_TILE * ROWS_OF_TILE;
}

// Up to 32 queries on their way: their scores, the weights that these become, and one by the sum of each row of weights.
struct Band {
    float* scores = nullptr;
    Parts weights;
    float inverse[QUERIES_AT_ONCE];
    int64_t count = 0;

    explicit Band(int64_t keys) : weights(QUERIES_AT_ONCE / ROWS_OF_TILE, ceil_div(keys, 32)) {}

    int64_t across() const { return 2 * weights.steps; }  // tiles of scores
    int64_t row_tiles() const { return ceil_div(count, ROWS_OF_TILE); }
};

// Makes weights of scores, e to the power of scale times how far they are below the largest of their row, little by
// little, so that it may be done beside products.
class Weighing {
  public:
    Weighing(Band& band, int64_t keys, float scale)
        : band_(band), last_step_((keys - 1) / 32), tail_(keys - 32 * last_step_), factor_(scale * LOG2_E) {
        begin_row();
    }

    int64_t calls() const { return band_.count * (1 + ceil_div(last_step_, 2)); }

    bool is_done() const { return row_ == band_.count; }

    void go_on() {
        if (is_done()) return;
        if (step_ + 2 <= last_step_) return weigh<2>();
        if (step_ < last_step_) return weigh<1>();
        end_row();
    }

  private:
    // Which of the first and of the last 16 keys of the last step there are.
    __mmask16 first_half() const { return static_cast<__mmask16>((1u << least(tail_, 16)) - 1); }
    __mmask16 last_half() const { return static_cast<__mmask16>((1u << most(tail_ - 16, 0)) - 1); }

    const float* scores_at(int64_t step) const {
        return band_.scores + place(row_, band_.across()) + 2 * step * TILE_FLOATS;
    }

    void begin_row() {
        __m512 a = _mm512_set1_ps(-INFINITY), b = a;
        for (int64_t step = 0; step < last_step_; ++step) {
            const float* const at = scores_at(step);
            a = _mm512_max_ps(a, _mm512_load_ps(at)), b = _mm512_max_ps(b, _mm512_load_ps(at + TILE_FLOATS));
        }
        const float* const at = scores_at(last_step_);
        a = _mm512_mask_max_ps(a, first_half(), a, _mm512_load_ps(at));
        b = _mm512_mask_max_ps(b, last_half(), b, _mm512_load_ps(at + TILE_FLOATS));
        top_ = std::ceil(factor_ * _mm512_reduce_max_ps(_mm512_max_ps(a, b)));
        sum_[0] = sum_[1] = _mm512_setzero_ps();
        step_ = 0;
    }

    void end_row() {
        weigh<1, true>();
        band_.inverse[row_] = 1.0f / _mm512_reduce_add_ps(_mm512_add_ps(sum_[0], sum_[1]));
        if (++row_ < band_.count) begin_row();
    }

    template <int STEPS, bool IS_LAST = false> void weigh() {
        const float* const at = scores_at(step_);
        __m512 x[2 * STEPS];
        for (int i = 0; i < 2 * STEPS; ++i) x[i] = _mm512_load_ps(at + i * TILE_FLOATS);
        power_of_two<2 * STEPS>(x, factor_, top_);
        if (IS_LAST) x[0] = _mm512_maskz_mov_ps(first_half(), x[0]), x[1] = _mm512_maskz_mov_ps(last_half(), x[1]);
        for (int i = 0; i < 2 * STEPS; ++i) sum_[i % 2] = _mm512_add_ps(sum_[i % 2], x[i]);
        band_.weights.put<STEPS>(row_ / ROWS_OF_TILE, step_, row_ % ROWS_OF_TILE, x);
        step_ += STEPS;
    }

    Band& band_;
    const int64_t last_step_, tail_;
    const float factor_;
    int64_t row_ = 0, step_ = 0;
    float top_ = 0;
    __m512 sum_[2];
};

// What runs beside products: so many calls of a weighing each time.
struct Beside {
    Weighing* weighing;
    int64_t at_once;

    void operator()() {
        for (int64_t i = 0; i < at_once; ++i) weighing->go_on();
    }
};

struct Nothing {
    void operator()() const {}
};

// A head of keys and values, and room for two bands of queries: while the weights of one are made, the scores of the next
// and the answers of the one before are summed.
class Head {
  public:
    explicit Head(const Attention& shape) : shape_(shape) {
        const int64_t tile = TILE_FLOATS * static_cast<int64_t>(sizeof(float)), rows = QUERIES_AT_ONCE / ROWS_OF_TILE;
        const int64_t scores = rows * bands_[0].across() * tile, sums = rows * v_.tiles * tile;
        const int64_t weights = bands_[0].weights.bytes();
        auto* memory = static_cast<uint8_t*>(
            scratch<Head>(q_.bytes() + k_.bytes() + v_.bytes() + 2 * (weights + scores) + sums + APART)
        );
        const auto take = [&](int64_t bytes) {
            memory += bytes;
            return memory - bytes;
        };
        q_.memory = take(q_.bytes()), k_.memory = take(k_.bytes()), v_.memory = take(v_.bytes());
        for (Band& band : bands_) band.weights.memory = take(weights);
        take(APART);
        for (Band& band : bands_) band.scores = reinterpret_cast<float*>(take(scores));
        sums_ = reinterpret_cast<float*>(take(sums));
    }

    // Takes the keys and values of a head; false where they are too large.
    bool take(const float* k, const float* v) {
        const int64_t width = shape_.width, stride = shape_.k_strides[2];
        __m512i largest = _mm512_setzero_si512();
        for (int64_t tile = 0; tile < k_.tiles; ++tile) {
            const int64_t first = tile * ROWS_OF_TILE;
            k_.put_rows(tile, {k + first * stride, stride, shape_.keys - first, width}, largest);
            k_.transpose(tile);
        }
        largest_key_ = largest_of(largest);
        largest = _mm512_setzero_si512();
        v_.put_columns({v, shape_.v_strides[2], shape_.keys, width}, largest);
        return largest_of(largest) < MOST_VALUE;
    }

    // The answers of bands [first, last) of the queries of a head, y's tokens `stride` floats apart; false where queries
    // are too large.
    bool attend(const float* q, int64_t first, int64_t last, float* y, int64_t stride) {
        Nothing nothing;
        if (!score(q, first, nothing)) return false;
        for (int64_t i = first; i < last; ++i) {
            Weighing weighing(bands_[i % 2], shape_.keys, shape_.scale);
            const bool has_next = i + 1 < last, has_previous = i > first;
            const int64_t chances = has_previous * calls_beside(v_) + has_next * calls_beside(k_);
            Beside beside = {&weighing, ceil_div(weighing.calls(), most(chances, 1))};
            if (has_previous) answer(i - 1, y, stride, beside);
            if (has_next && !score(q, i + 1, beside)) return false;
            while (!weighing.is_done()) weighing.go_on();
        }
        answer(last - 1, y, stride, nothing);
        return true;
    }

  private:
    template <class Besides> bool score(const float* q, int64_t i, Besides& beside) {
        Band& band = bands_[i % 2];
        const int64_t first = i * QUERIES_AT_ONCE, stride = shape_.q_strides[2];
        band.count = least(QUERIES_AT_ONCE, shape_.queries - first);
        __m512i largest = _mm512_setzero_si512();
        for (int64_t tile = 0; tile < band.row_tiles(); ++tile) {
            const int64_t row = tile * ROWS_OF_TILE;
            q_.put_rows(tile, {q + (first + row) * stride, stride, band.count - row, shape_.width}, largest);
        }
        const float bound = static_cast<float>(shape_.width) * largest_key_ * largest_of(largest);
        if (!(bound * shape_.scale * LOG2_E < MOST_SCORE)) return false;
        multiply_all(band.row_tiles(), q_, k_, band.scores, band.across(), beside);
        return true;
    }

    template <class Besides> void answer(int64_t i, float* y, int64_t stride, Besides& beside) {
        const Band& band = bands_[i % 2];
        multiply_all(band.row_tiles(), band.weights, v_, sums_, v_.tiles, beside);
        for (int64_t row = 0; row < band.count; ++row) {
            const float* const sums = sums_ + place(row, v_.tiles);
            float* const to = y + (i * QUERIES_AT_ONCE + row) * stride;
            for (int64_t t = 0; t < v_.tiles; ++t) {
                const __m512 sum = _mm512_load_ps(sums + t * TILE_FLOATS), inverse = _mm512_set1_ps(band.inverse[row]);
                _mm512_storeu_ps(to + t * ROWS_OF_TILE, _mm512_mul_ps(sum, inverse));
            }
        }
    }

    // So that a row of weights and its scores do not meet in the lower bits of addresses, by which loads wait for stores.
    static constexpr int64_t APART = 512;
    static constexpr float MOST_SCORE = 1 << 20, MOST_VALUE = 1e30f;

    const Attention& shape_;
    float largest_key_ = 0;
    Parts q_{QUERIES_AT_ONCE / ROWS_OF_TILE, ceil_div(shape_.width, 32)};
    Parts k_{ceil_div(shape_.keys, ROWS_OF_TILE), q_.steps};
    Parts v_{shape_.width / ROWS_OF_TILE, ceil_div(shape_.keys, 32)};
    Band bands_[2] = {Band(shape_.keys), Band(shape_.keys)};
    float* sums_;
};

bool attend(Head& room, const Heads& heads, int64_t first, int64_t last) {
    const Attention& shape = heads.shape;
    const int64_t bands = heads.bands(), stride = shape.heads * shape.width;
    while (first < last) {
        const int64_t batch = first / bands / shape.heads, head = first / bands % shape.heads, band = first % bands;
        const auto start = [&](const float* x, const int64_t* strides) {
            return x + batch * strides[0] + head * strides[1];
        };
        if (!room.take(start(heads.k, shape.k_strides), start(heads.v, shape.v_strides))) return false;
        const int64_t end = least(bands, band + last - first);
        float* const y = heads.y + batch * shape.queries * stride + head * shape.width;
        if (!room.attend(start(heads.q, shape.q_strides), band, end, y, stride)) return false;
        first += end - band;
    }
    return true;
}

}  // namespace

bool can_attend_by_amx() {
    static const bool has = has_bfloats();
    return has && has_amx();
}

bool attend_by_amx(const Heads& heads, int64_t first, int64_t last) {
    Head room(heads.shape);
    const TileConfiguration configuration;
    _tile_loadconfig(&configuration);
    const bool is_done = attend(room, heads, first, last);
    _tile_release();
    return is_done;
}

}  // namespace proxconnect

#else

namespace proxconnect {

bool can_attend_by_amx() { return false; }
bool attend_by_amx(const Heads&, int64_t, int64_t) { return false; }

}  // namespace proxconnect

#endif
