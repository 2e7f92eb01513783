// Attention of floats.
#include "fuzz/entries.hpp"

namespace fuzz {
namespace {

// Queries, keys or values: (batch, heads, tokens, width) in any order with the width last, with gaps of NaN.
struct Heads {
    int64_t batch, heads, tokens, width, strides[3];
    Guarded<float> x;

    static Heads drawn(Draws& draws, const Attention& shape, int64_t tokens, Mood mood, int64_t* strides) {
        const int64_t small = draws.one_of<int64_t>({0, 0, 1, 16}), gap = draws.rarely() ? 1024 - shape.width : small;
        const int64_t token = shape.width + gap;
        const bool is_by_head = draws.coin();
        strides[2] = is_by_head ? token : shape.heads * token;
        strides[1] = is_by_head ? tokens * token + gap : token;
        strides[0] = shape.heads * tokens * token + shape.heads * gap;
        const int64_t last_head = (shape.batch - 1) * strides[0] + (shape.heads - 1) * strides[1];
        const int64_t size = last_head + (tokens - 1) * strides[2] + shape.width;
        Heads made = {shape.batch, shape.heads, tokens, shape.width, {strides[0], strides[1], strides[2]},
                      Guarded<float>(shape.batch == 0 ? 0 : size, draws.coin())};
        std::fill(made.x.begin(), made.x.end(), NAN);
        for (int64_t i = 0; i < made.batch * made.heads * tokens * made.width; ++i) {
            made.x[made.place(i / made.width) + i % made.width] = draws.number(mood);
        }
        return made;
    }

    int64_t place(int64_t row) const {  // of (batch, head, token)
        return row / tokens / heads * strides[0] + row / tokens % heads * strides[1] + row % tokens * strides[2];
    }

    const float* row(int64_t batch_and_head, int64_t token) const {
        return x.data() + place(batch_and_head * tokens + token);
    }

    bool has_nan() const {
        for (int64_t i = 0; i < batch * heads * tokens * width; ++i) {
            if (std::isnan(x[place(i / width) + i % width])) return true;
        }
        return false;
    }

    // Return the largest of all, or inf if one is NaN.
    double largest() const {
        double most = 0;
        for (int64_t i = 0; i < batch * heads * tokens * width; ++i) {
            const double v = std::fabs(x[place(i / width) + i % width]);
            most = std::isnan(v) || v > most ? v : most;
            if (std::isnan(most)) return INFINITY;
        }
        return most;
    }
};

void check(const Heads& q, const Heads& k, const Heads& v, float scale, int64_t row, const float* y) {
    const int64_t head = row / q.tokens, query = row % q.tokens;
    std::vector<double> scores, answer(static_cast<size_t>(q.width));
    double top = -INFINITY, total = 0, size = 0;
    for (int64_t key = 0; key < k.tokens; ++key) {
        double score = 0, sizes = 0;
        for (int64_t i = 0; i < q.width; ++i) {
            const double product = static_cast<double>(q.row(head, query)[i]) * k.row(head, key)[i];
            score += product, sizes += std::fabs(product);
        }
        scores.push_back(score * scale), top = std::fmax(top, score * scale), size = std::fmax(size, sizes * scale);
    }
    double most = 0;
    for (int64_t key = 0; key < k.tokens; ++key) {
        const double weight = std::exp(scores[static_cast<size_t>(key)] - top);
        total += weight;
        for (int64_t i = 0; i < q.width; ++i) {
            answer[static_cast<size_t>(i)] += weight * v.row(head, key)[i];
            most = std::fmax(most, std::fabs(v.row(head, key)[i]));
        }
    }
    const double error = (size * 0x1p-20 + 4e-6) * most + 1e-32;
    const bool is_exact = size * 0x1p-20 < 0.1 && (most < 1e36 || std::isinf(most));
    for (int64_t i = 0; i < q.width && is_exact; ++i) {
        const double expected = answer[static_cast<size_t>(i)] / total;
        const bool is_right = std::isfinite(expected) ? std::fabs(y[i] - expected) <= error : !std::isfinite(y[i]);
        require(is_right, "px_attention", row * q.width + i, expected, y[i]);
    }
}

// Check whether the kernel took the inputs as it should.
void check_code(bool has_tiles, const Heads& q, const Heads& k, const Heads& v, double scale, int32_t code) {
    const double most_value = has_tiles ? 1e30 : INFINITY, most_score = has_tiles ? 1 << 20 : 3e38;
    constexpr double LOG2_E = 1.44269504;
    const bool has_none = std::isinf(q.largest()) || std::isinf(k.largest());
    const double score = static_cast<double>(q.width) * q.largest() * k.largest() * scale * LOG2_E;
    const bool is_small = score < most_score * 0.999 && (!has_tiles || v.largest() < most_value * 0.999);
    const bool refuses = q.has_nan() || k.has_nan() || (has_tiles && (has_none || v.largest() > most_value * 1.001));
    require(code == 0 || code == 2, "px_attention: code", -1, 0, code);
    require(!(is_small && !has_none) || code == 0, "px_attention refuses what it should take", -1, 0, code);
    require(q.batch == 0 || !refuses || code == 2, "px_attention takes NaN", -1, 2, code);
}

}  // namespace

void attention(Draws& draws) {
    const Machine machine(draws);
    Attention shape = {};
    shape.batch = draws.within(0, 2), shape.heads = draws.within(1, 3), shape.width = draws.within(16, 96);
    shape.queries = draws.size(70), shape.keys = draws.size(150);
    const bool has_tiles = machine.isa == AMX;
    if (has_tiles) shape.width = shape.width / 16 * 16;
    shape.scale = draws.one_of({1.0f, 0.125f, 0.001f});
    const Mood mood = draws.mood(), of_values = draws.coin() ? mood : Mood::COMMON;
    const Heads q = Heads::drawn(draws, shape, shape.queries, mood, shape.q_strides);
    const Heads k = Heads::drawn(draws, shape, shape.keys, mood, shape.k_strides);
    const Heads v = Heads::drawn(draws, shape, shape.keys, of_values, shape.v_strides);
    const int64_t rows = shape.batch * shape.heads * shape.queries;
    Guarded<float> y(rows * shape.width, draws.coin());
    const int32_t code =
        px_attention(machine.isa, q.x.data(), k.x.data(), v.x.data(), &shape, y.data(), machine.threads);
    if (!machine.is_known() || machine.isa == PORTABLE || machine.isa == NEON) {
        return require(code == 1 && is_untouched(y), "px_attention: code", -1, 1, code);
    }
    check_code(has_tiles, q, k, v, static_cast<double>(shape.scale), code);
    for (int64_t row = 0; row < rows && code == 0; ++row) {
        const int64_t head = row / shape.queries, query = row % shape.queries;
        const int64_t at = (head / shape.heads * shape.queries + query) * shape.heads + head % shape.heads;
        check(q, k, v, shape.scale, row, y.data() + at * shape.width);
    }
}

}  // namespace fuzz
