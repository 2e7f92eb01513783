// Attention by products of floats, with the lanes of vectors for queries, then for entries of values.
#pragma once

#include <cmath>

#include "attention/float_products.hpp"
#include "attention/heads.hpp"
#include "attention/power_of_two.hpp"
#include "isa/four_floats.hpp"
#include "runtime/scratch.hpp"

namespace proxconnect {
namespace {

constexpr int64_t BAND = 48;  // queries: whole vectors, and a multiple of all ROWS of `answer`
constexpr int64_t KEYS_AT_ONCE = 128;  // longer sums are less exact, and more values leave the first cache

// Up to BAND queries of a head. V has `outputs` lanes, an `fma`, and registers for `attention_sums` sums of up to
// `attention_columns` columns.
template <class V>
class FloatBand {
  public:
    explicit FloatBand(const Attention& shape) : shape_(shape) {
        const int64_t floats = BAND * (shape.width + shape.keys);
        queries_ = scratch<float, FloatBand>(floats);
        weights_ = queries_ + BAND * shape.width;
    }

    // Compute the answers to the first `count` queries of a head. Return false if a score is +inf or NaN.
    bool attend(const Head& head, int64_t count) {
        const int64_t lanes = ceil_div(count, LANES) * LANES;
        transpose_queries(head.q, count, lanes);
        in_columns<V>(lanes, [&](int64_t lane, auto columns) { score<columns, rows_of(columns)>(head.k, lane); });
        if (!weigh(lanes)) return false;
        in_columns<V>(shape_.width, [&](int64_t entry, auto columns) {
            answer<columns>(head.v + entry, count, head.y + entry, head.y_stride);
        });
        return true;
    }

  private:
    static constexpr int64_t LANES = V::outputs, LINE = 16;

    static constexpr int rows_of(int columns) { return columns == 1 ? 12 : V::attention_sums / columns; }

    // Scores are in powers of two. The last query fills the lanes after it.
    void transpose_queries(const float* q, int64_t count, int64_t lanes) {
        const float factor = shape_.scale * LOG2_E;
        for (int64_t query = 0; query < lanes; query += 4) {
            for (int64_t part = 0; part < shape_.width; part += 4) {
                const int64_t entry = least(part, shape_.width - 4);
                FourFloats x[4];
                for (int64_t i = 0; i < 4; ++i) {
                    const float* const from = q + least(query + i, count - 1) * shape_.q_strides[2] + entry;
                    x[i] = loaded<FourFloats>(from) * factor;
                }
                transpose(x);
                for (int64_t i = 0; i < 4; ++i) store_part(x[i], 4, queries_ + (entry + i) * BAND + query);
            }
        }
    }

    // Multiply all keys, ROWS at once, by the queries of some lanes. The last keys overlap those before.
    template <int COLUMNS, int ROWS>
    void score(const float* k, int64_t lane) {
        const int64_t stride = shape_.k_strides[2], keys = shape_.keys;
        if constexpr (ROWS > 1) {
            if (keys < ROWS) return score<COLUMNS, ROWS / 2>(k, lane);
        }
        for (int64_t key = 0; key < keys; key += ROWS) {
            const int64_t first = least(key, keys - ROWS);
            FloatSums<V, ROWS, COLUMNS> sums;
            multiply<V, ROWS, COLUMNS>({k + first * stride, stride, 1, queries_ + lane, BAND, shape_.width}, sums);
            unrolled<ROWS * COLUMNS>([&](auto i) {
                constexpr int row = i / COLUMNS, column = i % COLUMNS;
                store_part(sums[row][column], LANES, weights_ + (first + row) * BAND + lane + column * LANES);
            });
        }
    }

    // Turn scores into weights. Return false if one is +inf or NaN.
    bool weigh(int64_t lanes) {
        const int64_t keys = shape_.keys;
        Floats<V> sums = {};
        for (int64_t lane = 0; lane < lanes; lane += LANES) {
            float* const scores = weights_ + lane;
            Floats<V> top = Floats<V>{} - INFINITY, sum = {};
            for (int64_t key = 0; key < keys; ++key) {
                const Floats<V> x = loaded<Floats<V>>(scores + key * BAND);
                top = x > top ? x : top;
            }
            for (int64_t key = 0; key < keys; key += KEYS_AT_ONCE) {
                sum += weigh_keys(scores + key * BAND, least(KEYS_AT_ONCE, keys - key), top);
            }
            store_part(1.0f / sum, LANES, inverse_ + lane), sums += sum;
        }
        bool is_known = true;
        for (int64_t i = 0; i < LANES; ++i) is_known &= sums[i] == sums[i];
        return is_known;
    }

    // Turn the scores of some keys into weights, and return their sum.
    static Floats<V> weigh_keys(float* scores, int64_t keys, Floats<V> top) {
        Floats<V> sum = {};
        for (int64_t key = 0; key < keys; ++key, scores += BAND) {
            const Floats<V> weight = power_of_two<V>(loaded<Floats<V>>(scores) - top);
            store_part(weight, LANES, scores), sum += weight;
        }
        return sum;
    }

    struct Values {
        const float* x;
        int64_t stride;
    };

    // Return values that stay in the first cache, of ENTRIES entries each: copies if they are single lines that share a
    // set there, because they lie a multiple of 4096 bytes apart.
    template <int64_t ENTRIES>
    Values cached(const Values& values, int64_t count) {
        if (ENTRIES > LINE || values.stride % 1024 != 0) return values;
        for (int64_t i = 0; i < count; ++i) {
            std::memcpy(values_ + i * LINE, values.x + i * values.stride, ENTRIES * sizeof(float));
        }
        return {values_, LINE};
    }

    // Compute some columns of the answers, in which the sums of earlier keys wait.
    template <int COLUMNS>
    void answer(const float* v, int64_t count, float* y, int64_t y_stride) {
        constexpr int ROWS = rows_of(COLUMNS);
        const int64_t keys = shape_.keys, stride = shape_.v_strides[2], parts = ceil_div(keys, KEYS_AT_ONCE);
        for (int64_t part = 0; part < parts; ++part) {
            const int64_t first = part * keys / parts, steps = (part + 1) * keys / parts - first;
            const Values values = cached<COLUMNS * LANES>({v + first * stride, stride}, steps);
            for (int64_t query = 0; query < count; query += ROWS) {
                FloatSums<V, ROWS, COLUMNS> sums;
                const float* const weights = weights_ + first * BAND + query;
                multiply<V, ROWS, COLUMNS>({weights, 1, BAND, values.x, values.stride, steps}, sums);
                unrolled<ROWS>([&](auto row) {
                    if (query + row >= count) return;
                    const float inverse = part + 1 < parts ? 1.0f : inverse_[query + row];
                    unrolled<COLUMNS>([&](auto column) {
                        float* const to = y + (query + row) * y_stride + column * LANES;
                        const Floats<V> earlier = part > 0 ? loaded<Floats<V>>(to) : Floats<V>{};
                        store_part((earlier + sums[row][column]) * inverse, LANES, to);
                    });
                });
            }
        }
    }

    const Attention& shape_;
    float *queries_, *weights_, inverse_[BAND], values_[KEYS_AT_ONCE * LINE];
};

template <class V>
bool attend(const Heads& heads, int64_t first, int64_t last) {
    FloatBand<V> room(heads.shape);
    return each_head(heads, first, last, [&](const Head& head, int64_t begin, int64_t end) {
        for (int64_t band = begin; band < end; ++band) {
            Head rest = head;
            rest.q += band * BAND * heads.shape.q_strides[2], rest.y += band * BAND * head.y_stride;
            if (!room.attend(rest, least(BAND, heads.shape.queries - band * BAND))) return false;
        }
        return true;
    });
}

template <class V>
constexpr AttentionKernel float_attention = {BAND, attend<V>};

}  // namespace
}  // namespace proxconnect
