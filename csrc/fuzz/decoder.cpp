// Decoder layers of language models, against sums of doubles.
#include "fuzz/entries.hpp"
#include "fuzz/sign_weights.hpp"

namespace fuzz {
namespace {

using Doubles = std::vector<double>;

// A product of a decoder layer, with one scale for all outputs and a bias.
struct Product {
    int64_t outputs, entries;
    SignWeight weight;
    Guarded<float> bias;
    float scale;
    Step add = {ADD, 0, 0, nullptr, nullptr};
    Fused fused = {};

    Product(Draws& draws, int64_t rows, int64_t columns, bool adds)
        : outputs(rows), entries(columns), weight(draws, 1, rows, columns), bias(floats(draws, rows, Mood::COMMON)),
          scale(1 / std::sqrt(static_cast<float>(columns))) {
        fused = {{NEVER, 8, 1, 1, &scale, bias.data()}, adds ? 1 : 0, adds ? &add : nullptr, nullptr};
    }

    DecoderProduct described() const { return {weight.panels(), outputs, &fused}; }

    Doubles of(const Doubles& x) const {
        Doubles y;
        for (int64_t row = 0; row < outputs; ++row) {
            double sum = 0;
            for (int64_t k = 0; k < entries; ++k) sum += x[static_cast<size_t>(k)] * weight.row(row)[k];
            y.push_back(sum * static_cast<double>(scale) + static_cast<double>(bias[row]));
        }
        return y;
    }
};

struct Sizes {
    int64_t width, hidden, heads, key_heads, head_width;
};

struct Layer {
    Sizes n;
    bool has_norms;
    Guarded<float> input_norm, hidden_norm, query_norm, key_norm;
    Product query, key, value, output, gate, up, down;
    float eps = 1e-5f, scale = 0.25f;

    Layer(Draws& draws, const Sizes& sizes)
        : n(sizes), has_norms(draws.coin()), input_norm(floats(draws, n.width, Mood::COMMON)),
          hidden_norm(floats(draws, n.width, Mood::COMMON)), query_norm(floats(draws, n.head_width, Mood::COMMON)),
          key_norm(floats(draws, n.head_width, Mood::COMMON)),
          query(draws, n.heads * n.head_width, n.width, false),
          key(draws, n.key_heads * n.head_width, n.width, false),
          value(draws, n.key_heads * n.head_width, n.width, false),
          output(draws, n.width, n.heads * n.head_width, true), gate(draws, n.hidden, n.width, false),
          up(draws, n.hidden, n.width, false), down(draws, n.width, n.hidden, true) {}

    Decoder described(bool rounds) const {
        return {n.width, n.hidden, n.heads, n.key_heads, n.head_width, eps, scale, rounds, input_norm.data(),
                hidden_norm.data(), has_norms ? query_norm.data() : nullptr, has_norms ? key_norm.data() : nullptr,
                query.described(), key.described(), value.described(), output.described(), gate.described(),
                up.described(), down.described()};
    }

    Doubles normed(const Doubles& x, const Guarded<float>& weight) const {
        double squares = 0;
        for (const double v : x) squares += v * v;
        const double root = std::sqrt(squares / static_cast<double>(x.size()) + static_cast<double>(eps));
        Doubles y;
        for (size_t i = 0; i < x.size(); ++i) y.push_back(x[i] / root * weight[static_cast<int64_t>(i)]);
        return y;
    }

    // One head, normed if there are norms, and turned.
    Doubles turned(const Doubles& x, int64_t head, const Guarded<float>& norm, const float* cosine,
                   const float* sine) const {
        Doubles of_head(x.begin() + head * n.head_width, x.begin() + (head + 1) * n.head_width), y;
        if (has_norms) of_head = normed(of_head, norm);
        for (int64_t i = 0, half = n.head_width / 2; i < n.head_width; ++i) {
            const double other = of_head[static_cast<size_t>(i < half ? i + half : i - half)];
            y.push_back(of_head[static_cast<size_t>(i)] * cosine[i] + (i < half ? -other : other) * sine[i]);
        }
        return y;
    }
};

// The keys and values of all sequences, with room for more tokens.
struct Cache {
    int64_t batch, heads, tokens, room, width;
    Guarded<float> keys, values;
    Guarded<uint8_t> seen;
    bool is_masked;

    Cache(Draws& draws, int64_t sequences, const Sizes& n, int64_t count)
        : batch(sequences), heads(n.key_heads), tokens(count), room(count + 1 + draws.below(3)), width(n.head_width),
          keys(floats(draws, batch * heads * room * width, Mood::COMMON)),
          values(floats(draws, batch * heads * room * width, Mood::COMMON)),
          seen(batch * (tokens + 1), draws.coin()), is_masked(draws.coin()) {
        for (int64_t i = 0; i < seen.size(); ++i) seen[i] = i % (tokens + 1) == tokens || draws.random() % 3 > 0;
    }

    DecoderCache described() {
        return {keys.data(), values.data(), tokens, {heads * room * width, room * width},
                is_masked ? seen.data() : nullptr};
    }

    int64_t place(int64_t sequence, int64_t head, int64_t token) const {
        return ((sequence * heads + head) * room + token) * width;
    }

    bool sees(int64_t sequence, int64_t token) const {
        return !is_masked || seen[sequence * (tokens + 1) + token] != 0;
    }
};

// softmax(scale · q Kᵀ) V of a head, with the newest key and value in the cache.
Doubles attended(const Layer& layer, const Cache& cache, int64_t sequence, int64_t head, const Doubles& query) {
    const int64_t of_keys = head / (layer.n.heads / layer.n.key_heads);
    Doubles y(query.size());
    double total = 0;
    for (int64_t token = 0; token <= cache.tokens; ++token) {
        const int64_t at = cache.place(sequence, of_keys, token);
        double score = 0;
        for (size_t i = 0; i < query.size(); ++i) score += query[i] * cache.keys[at + static_cast<int64_t>(i)];
        const double weight = cache.sees(sequence, token) ? std::exp(score * static_cast<double>(layer.scale)) : 0;
        total += weight;
        for (size_t i = 0; i < y.size(); ++i) y[i] += weight * cache.values[at + static_cast<int64_t>(i)];
    }
    for (double& v : y) v /= total;
    return y;
}

Doubles silu_of(const Doubles& gates, const Doubles& ups) {
    Doubles y;
    for (size_t i = 0; i < gates.size(); ++i) y.push_back(gates[i] / (1 + std::exp(-gates[i])) * ups[i]);
    return y;
}

void check_near(const Doubles& expected, const float* found, const char* what) {
    double size = 1;
    for (const double v : expected) size = std::fmax(size, std::fabs(v));
    for (size_t i = 0; i < expected.size(); ++i) {
        const double error = std::fabs(static_cast<double>(found[i]) - expected[i]);
        require(error <= 2e-4 * size, what, static_cast<int64_t>(i), expected[i], static_cast<double>(found[i]));
    }
}

// Check the output of a sequence, and what it added to the cache.
void check(const Layer& layer, const Cache& cache, int64_t sequence, const float* x, const float* cosine,
           const float* sine, const float* y) {
    const Sizes& n = layer.n;
    const Doubles given(x, x + n.width), input = layer.normed(given, layer.input_norm);
    const Doubles queries = layer.query.of(input), keys = layer.key.of(input), values = layer.value.of(input);
    for (int64_t head = 0; head < n.key_heads; ++head) {
        const int64_t at = cache.place(sequence, head, cache.tokens);
        const auto value = values.begin() + head * n.head_width;
        check_near(layer.turned(keys, head, layer.key_norm, cosine, sine), cache.keys.data() + at, "a new key");
        check_near(Doubles(value, value + n.head_width), cache.values.data() + at, "a new value");
    }
    Doubles all;
    for (int64_t head = 0; head < n.heads; ++head) {
        const Doubles query = layer.turned(queries, head, layer.query_norm, cosine, sine);
        for (const double v : attended(layer, cache, sequence, head, query)) all.push_back(v);
    }
    Doubles hidden = layer.output.of(all);
    for (size_t i = 0; i < hidden.size(); ++i) hidden[i] += given[i];
    const Doubles normed = layer.normed(hidden, layer.hidden_norm);
    Doubles expected = layer.down.of(silu_of(layer.gate.of(normed), layer.up.of(normed)));
    for (size_t i = 0; i < expected.size(); ++i) expected[i] += hidden[i];
    check_near(expected, y, "px_decoder_layer");
}

}  // namespace

void decoder_layer(Draws& draws) {
    const Machine machine(draws);
    const int64_t key_heads = draws.within(1, 3), sharing = draws.within(1, 3);
    const bool is_shared = draws.rarely();  // by threads
    const auto size = [&] { return is_shared ? draws.within(400, 600) : draws.size(150); };
    const Sizes n = {size(), size(), key_heads * sharing, key_heads, 2 * draws.size(40)};
    const int64_t batch = draws.rarely() ? 0 : draws.within(1, 3);
    const Layer layer(draws, n);
    Cache cache(draws, batch, n, draws.rarely() ? 0 : draws.size(70));
    const bool rounds = draws.below(4) == 0;
    const Decoder decoder = layer.described(rounds);
    const DecoderCache described = cache.described();
    const Guarded<float> x = floats(draws, batch * n.width, Mood::COMMON);
    const Guarded<float> cosine = floats(draws, batch * n.head_width, Mood::COMMON);
    const Guarded<float> sine = floats(draws, batch * n.head_width, Mood::COMMON);
    Guarded<float> y(batch * n.width, draws.coin());
    const std::vector<float> keys = cache.keys.copy(), values = cache.values.copy();
    const int32_t code = px_decoder_layer(machine.isa, x.data(), batch, cosine.data(), sine.data(), &described,
                                          &decoder, y.data(), machine.threads);
    require(code == !machine.is_known(), "px_decoder_layer: code", -1, !machine.is_known(), code);
    if (code != 0) return require(is_untouched(y), "px_decoder_layer writes though it refuses");
    for (int64_t i = 0; i < cache.keys.size(); ++i) {
        const bool is_new = i / n.head_width % cache.room == cache.tokens;
        const size_t at = static_cast<size_t>(i);
        require(is_new || (same(keys[at], cache.keys[i]) && same(values[at], cache.values[i])), "another token", i);
    }
    Guarded<float> alone(batch * n.width, false);
    px_decoder_layer(machine.isa, x.data(), batch, cosine.data(), sine.data(), &described, &decoder, alone.data(), 1);
    for (int64_t i = 0; i < y.size(); ++i) {
        require(same(alone[i], y[i]), "threads give another answer", i, static_cast<double>(alone[i]), y[i]);
    }
    for (int64_t sequence = 0; sequence < batch && !rounds; ++sequence) {
        const int64_t angles = sequence * n.head_width, at = sequence * n.width;
        check(layer, cache, sequence, x.data() + at, cosine.data() + angles, sine.data() + angles, y.data() + at);
    }
}

}  // namespace fuzz
