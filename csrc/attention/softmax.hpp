// The weights of a softmax, from scores.
#pragma once

#include <cmath>

#include "attention/bfloat_products.hpp"
#include "attention/heads.hpp"
#include "attention/power_of_two.hpp"

namespace proxconnect {
namespace {

constexpr int64_t QUERIES_AT_ONCE = 32;

// x = 2^(x · factor - top), for whole `top`, to two ulps, and 2^-125 below. Both magnitudes are below 2^20. All vectors
// side by side, because each alone is a long chain.
template <int COUNT> void powers_of_two(__m512* x, float factor, float top) {
    constexpr float rounder = 12582912.0f;  // 1.5·2^23: what is added to it becomes an integer
    const __m512 factors = _mm512_set1_ps(factor), start = _mm512_set1_ps(rounder - top);
    __m512 whole[COUNT], power[COUNT];
    for (int i = 0; i < COUNT; ++i) whole[i] = _mm512_fmadd_ps(x[i], factors, start);
    for (int i = 0; i < COUNT; ++i) x[i] = _mm512_fmsub_ps(x[i], factors, _mm512_sub_ps(whole[i], start));
    for (int i = 0; i < COUNT; ++i) power[i] = _mm512_set1_ps(POWER_POLYNOMIAL[0]);
    for (int j = 1; j < 6; ++j) {
        const __m512 next = _mm512_set1_ps(POWER_POLYNOMIAL[j]);
        for (int i = 0; i < COUNT; ++i) power[i] = _mm512_fmadd_ps(x[i], power[i], next);
    }
    for (int i = 0; i < COUNT; ++i) {
        whole[i] = _mm512_max_ps(whole[i], _mm512_set1_ps(rounder - 125.0f));
        const __m512i exponent = _mm512_slli_epi32(_mm512_castps_si512(whole[i]), 23);
        x[i] = _mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(power[i]), exponent));
    }
}

// Return the begin of a row of 16 in tiles of floats, `across` in a row.
inline int64_t place(int64_t row, int64_t across) {
    return row / TILE_ROWS * across * TILE_FLOATS + row % TILE_ROWS * TILE_ROWS;
}

// Up to 32 queries in progress: scores, the weights computed from them, and the inverse of the sum of each row of
// weights.
struct Band {
    float* scores = nullptr;
    Parts weights;
    float inverse[QUERIES_AT_ONCE];
    int64_t count = 0;

    explicit Band(int64_t keys) : weights(QUERIES_AT_ONCE / TILE_ROWS, ceil_div(keys, 32)) {}

    int64_t across() const { return 2 * weights.steps; }  // tiles of scores
    int64_t row_tiles() const { return ceil_div(count, TILE_ROWS); }
};

// Compute weights from scores little by little, so that it can run beside products. A weight is e to the power of scale
// times the difference to the row's largest score.
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
    // The existing keys among the first, and among the last, 16 keys of the last step.
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
        powers_of_two<2 * STEPS>(x, factor_, top_);
        if (IS_LAST) x[0] = _mm512_maskz_mov_ps(first_half(), x[0]), x[1] = _mm512_maskz_mov_ps(last_half(), x[1]);
        for (int i = 0; i < 2 * STEPS; ++i) sum_[i % 2] = _mm512_add_ps(sum_[i % 2], x[i]);
        band_.weights.put<STEPS>(row_ / TILE_ROWS, step_, row_ % TILE_ROWS, x);
        step_ += STEPS;
    }

    Band& band_;
    const int64_t last_step_, tail_;
    const float factor_;
    int64_t row_ = 0, step_ = 0;
    float top_ = 0;
    __m512 sum_[2];
};

}  // namespace
}  // namespace proxconnect
