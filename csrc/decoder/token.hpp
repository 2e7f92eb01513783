// The parts of a decoder layer, for one new token, that are no products of weights.
//
// V has: `fma`, of Floats<V>, which rounds once.
#pragma once

#include <cmath>

#include "attention/power_of_two.hpp"
#include "isa/kernels.hpp"
#include "isa/unrolled.hpp"
#include "isa/vectors.hpp"
#include "runtime/sizes.hpp"

namespace proxconnect {
namespace {

// Call work(offset, count) for each vector of a row. The last may have fewer floats than lanes.
template <class V, class Work>
ALWAYS_INLINE inline void in_vectors(int64_t width, const Work& work) {
    int64_t at = 0;
    for (; at + V::outputs <= width; at += V::outputs) work(at, int64_t{V::outputs});
    if (at < width) work(at, width - at);
}

// y = x / sqrt(mean(x²) + eps) · weight. y may be x.
template <class V>
void rms_norm(const float* x, const float* weight, int64_t width, float eps, float* y) {
    Floats<V> squares = {};
    in_vectors<V>(width, [&](int64_t at, int64_t count) {
        const auto v = loaded_part<Floats<V>>(x + at, count);
        squares = V::fma(v, v, squares);
    });
    const float factor = 1.0f / std::sqrt(sum_of<V::outputs>(squares) / static_cast<float>(width) + eps);
    in_vectors<V>(width, [&](int64_t at, int64_t count) {
        const auto v = loaded_part<Floats<V>>(x + at, count) * factor;
        store_part(v * loaded_part<Floats<V>>(weight + at, count), count, y + at);
    });
}

// Turn pairs (x[i], x[i + width/2]) by the angles of a position. y may be x.
template <class V>
void rotate(const float* x, const float* cosine, const float* sine, int64_t width, float* y) {
    const int64_t half = width / 2;
    in_vectors<V>(half, [&](int64_t at, int64_t count) {
        const auto load = [&](const float* from) { return loaded_part<Floats<V>>(from + at, count); };
        const Floats<V> a = load(x), b = load(x + half);
        store_part(a * load(cosine) - b * load(sine), count, y + at);
        store_part(b * load(cosine + half) + a * load(sine + half), count, y + half + at);
    });
}

// y = silu(gate) · up, with silu(v) = v / (1 + e^-v). y may be either.
template <class V>
void gate_by_silu(const float* gate, const float* up, int64_t count, float* y) {
    constexpr float LEAST = -87.0f;  // whose power is a float
    in_vectors<V>(count, [&](int64_t at, int64_t part) {
        const auto v = loaded_part<Floats<V>>(gate + at, part);
        const Floats<V> bounded = v < LEAST ? Floats<V>{} + LEAST : v;
        const Floats<V> silu = v / (power_of_two<V>(bounded * -LOG2_E) + 1.0f);
        store_part((v < LEAST ? v * 0.0f : silu) * loaded_part<Floats<V>>(up + at, part), part, y + at);
    });
}

// Write scale · key · query of COUNT keys to `scores`, and -inf for keys that `seen`, if not null, marks with 0.
template <class V, int COUNT>
ALWAYS_INLINE inline void score(const float* query, const float* keys, int64_t width, float scale, const uint8_t* seen,
                                float* scores) {
    Floats<V> sums[COUNT] = {};
    in_vectors<V>(width, [&](int64_t at, int64_t count) ALWAYS_INLINE {
        const auto asked = loaded_part<Floats<V>>(query + at, count);
        unrolled<COUNT>([&](auto k) ALWAYS_INLINE {
            sums[k] = V::fma(asked, loaded_part<Floats<V>>(keys + k * width + at, count), sums[k]);
        });
    });
    for (int k = 0; k < COUNT; ++k) {
        scores[k] = seen == nullptr || seen[k] != 0 ? sum_of<V::outputs>(sums[k]) * scale : -INFINITY;
    }
}

// Make weights of a softmax of the scores, and return their sum. NaN makes all of them NaN.
template <class V>
float weigh(int64_t tokens, float* scores) {
    float top = -INFINITY;
    for (int64_t token = 0; token < tokens; ++token) top = scores[token] <= top ? top : scores[token];
    Floats<V> totals = {};
    in_vectors<V>(tokens, [&](int64_t at, int64_t count) {
        const Floats<V> behind = loaded_over(Floats<V>{} - INFINITY, scores + at, count) - top;
        const Floats<V> weights = power_of_two<V>(behind * LOG2_E);
        totals += weights;
        store_part(weights, count, scores + at);
    });
    return sum_of<V::outputs>(totals);
}

// y = the weighted sum of COLUMNS vectors of each value, divided by `total`. The last may have fewer floats: `count`.
template <class V, int COLUMNS>
ALWAYS_INLINE inline void mix(const float* values, int64_t width, const float* weights, int64_t tokens, float total,
                              int64_t count, float* y) {
    Floats<V> sums[COLUMNS] = {};
    for (int64_t token = 0; token < tokens; ++token, values += width) {
        const Floats<V> weight = Floats<V>{} + weights[token];
        unrolled<COLUMNS>([&](auto c) ALWAYS_INLINE {
            sums[c] = V::fma(loaded_part<Floats<V>>(values + c * V::outputs, count), weight, sums[c]);
        });
    }
    unrolled<COLUMNS>([&](auto c) ALWAYS_INLINE { store_part(sums[c] / total, count, y + c * V::outputs); });
}

// y = the mean of the values, weighted by e to the power of scale · key · query. `scores` has room for all tokens.
template <class V>
void attend(const float* query, const HeadCache& cache, int64_t width, float scale, float* scores, float* y) {
    constexpr int64_t KEYS = 4, COLUMNS = 8, SIZE = COLUMNS * V::outputs;
    const int64_t tokens = cache.tokens;
    const auto seen = [&](int64_t token) { return cache.seen == nullptr ? nullptr : cache.seen + token; };
    int64_t token = 0;
    for (; token + KEYS <= tokens; token += KEYS) {
        score<V, KEYS>(query, cache.keys + token * width, width, scale, seen(token), scores + token);
    }
    for (; token < tokens; ++token) {
        score<V, 1>(query, cache.keys + token * width, width, scale, seen(token), scores + token);
    }
    const float total = weigh<V>(tokens, scores);
    int64_t at = 0;
    for (; at + SIZE <= width; at += SIZE) {
        mix<V, COLUMNS>(cache.values + at, width, scores, tokens, total, V::outputs, y + at);
    }
    for (; at + SIZE / 2 <= width; at += SIZE / 2) {
        mix<V, COLUMNS / 2>(cache.values + at, width, scores, tokens, total, V::outputs, y + at);
    }
    for (; at < width; at += V::outputs) {
        mix<V, 1>(cache.values + at, width, scores, tokens, total, least(V::outputs, width - at), y + at);
    }
}

template <class V>
constexpr TokenKernels token_kernels = {rms_norm<V>, rotate<V>, gate_by_silu<V>, attend<V>};

}  // namespace
}  // namespace proxconnect
