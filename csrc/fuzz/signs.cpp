// Binary products.
#include "fuzz/epilogues.hpp"
#include "fuzz/sign_weights.hpp"

namespace fuzz {
namespace {

// Rows of floats or of words, and a weight.
struct Product : Rows {
    SignWeight weight;

    static Product drawn(Draws& draws) {
        Rows rows = Rows::drawn(draws, {150, 200, 400}, 50000);
        const int64_t n = rows.n, entries = rows.entries;
        return {std::move(rows), SignWeight(draws, 1, n, entries)};
    }

    const float* row(int64_t r) const { return x.data() + r * stride; }

    bool is_nan(int64_t r) const {
        return std::any_of(row(r), row(r) + entries, [](float v) { return std::isnan(v); });
    }

    int64_t sum(int64_t r, int64_t channel) const {
        const int8_t* const signs = weight.row(channel);
        int64_t total = 0;
        for (int64_t k = 0; k < entries; ++k) total += row(r)[k] >= 0 ? signs[k] : -signs[k];
        return total;
    }

    // Return the rows as words, and which are NaN.
    Guarded<uint64_t> words(Draws& draws) const {
        Guarded<uint64_t> words(m * words_of(entries), draws.coin());
        std::fill(words.begin(), words.end(), 0);
        for (int64_t i = 0; i < m * entries; ++i) {
            const int64_t r = i / entries, k = i % entries;
            words[r * words_of(entries) + k / 64] |= static_cast<uint64_t>(row(r)[k] >= 0) << (k % 64);
        }
        return words;
    }

    Guarded<uint8_t> nan(Draws& draws) const {
        Guarded<uint8_t> nan(m, draws.coin());
        for (int64_t r = 0; r < m; ++r) nan[r] = is_nan(r);
        return nan;
    }
};

}  // namespace

void prepack_signs(Draws& draws) {
    const Machine machine(draws);
    int64_t groups = draws.within(1, 3), outputs = draws.size(70), channels = draws.size(300), taps = draws.size(50);
    bound(draws, {&outputs, &channels, &taps}, 50000);
    const int64_t columns = channels * taps, entries = groups * outputs * columns;
    Guarded<uint8_t> bits((entries + 7) / 8, draws.coin());
    for (uint8_t& byte : bits) byte = static_cast<uint8_t>(draws.random());
    const int64_t of_group = (outputs + 7) / 8, words = words_of(columns);
    std::vector<uint64_t> expected(static_cast<size_t>(groups * of_group * words * 8));
    for (int64_t i = 0; i < entries; ++i) {
        const int64_t row = i / columns, k = i % taps * channels + i / taps % channels;
        const int64_t panel = row / outputs * of_group + row % outputs / 8, word = panel * words + k / 64;
        const uint64_t bit = bits[i / 8] >> (i % 8) & 1;
        expected[static_cast<size_t>(word * 8 + row % outputs % 8)] |= bit << (k % 64);
    }
    Guarded<uint64_t> panels(static_cast<int64_t>(expected.size()), draws.coin());
    const int32_t code = px_prepack_signs(machine.isa, bits.data(), groups, outputs, channels, taps, panels.data(),
                                          machine.threads);
    require(code == !machine.is_known(), "px_prepack_signs: code", -1, !machine.is_known(), code);
    require(code == 0 ? panels.is_still(expected) : is_untouched(panels), "px_prepack_signs");
}

namespace {

void check_floats(const Product& p, const Epilogue& epilogue, const std::vector<uint8_t>& is_nan,
                  const Guarded<float>& y) {
    for (int64_t i = 0; i < p.m * p.n; ++i) {
        const int64_t r = i / p.n, c = i % p.n;
        const bool is_lost = is_nan[static_cast<size_t>(r)] != 0;
        const float expected = is_lost ? NAN : epilogue.of(held(p.sum(r, c), epilogue.output), c, i);
        require(same(expected, y[i]), "px_binary_linear", i, expected, y[i]);
    }
}

void check_words(const Product& p, const Output& output, const Intervals& intervals,
                 const std::vector<uint8_t>& is_nan, const Guarded<uint64_t>& words) {
    for (int64_t i = 0; i < p.m * words_of(p.n) * 64; ++i) {
        const int64_t r = i / 64 / words_of(p.n), c = i % (words_of(p.n) * 64);
        if (is_nan[static_cast<size_t>(r)] != 0) continue;
        const uint64_t expected = c < p.n ? intervals.bit(held_integer(p.sum(r, c), output), c) : 0;
        require(expected == (words[i / 64] >> (i % 64) & 1), "px_binary_linear: bit", i, expected == 1, expected == 0);
    }
}

}  // namespace

void binary_linear(Draws& draws) {
    const Machine machine(draws);
    const Product p = Product::drawn(draws);
    const bool takes_words = draws.coin(), has_nan = draws.coin(), makes_signs = draws.coin(), tells_nan = draws.coin();
    const Guarded<uint64_t> words = p.words(draws);
    const Guarded<uint8_t> nan = p.nan(draws);
    std::vector<uint8_t> is_nan = nan.copy();
    if (takes_words && !has_nan) std::fill(is_nan.begin(), is_nan.end(), 0);
    Epilogue epilogue(draws, p.m, p.n, true);
    epilogue.output = accumulator(draws);
    const Intervals intervals(draws, p.n);
    const Signs signs = intervals.signs();
    Fused fused = epilogue.fused();
    if (makes_signs) fused.signs = &signs, fused.step_count = 0, fused.steps = nullptr;
    Guarded<float> y(makes_signs ? 0 : p.m * p.n, draws.coin());
    Guarded<uint64_t> bits(makes_signs ? p.m * words_of(p.n) : 0, draws.coin());
    Guarded<uint8_t> told(makes_signs && tells_nan ? p.m : 0, draws.coin());
    void* const output = makes_signs ? static_cast<void*>(bits.data()) : y.data();
    const int32_t code = px_binary_linear(
        machine.isa, takes_words ? nullptr : p.x.data(), takes_words ? words.data() : nullptr,
        takes_words && has_nan ? nan.data() : nullptr, p.m, p.entries, p.stride, p.weight.panels(), p.n, &fused,
        epilogue.others(), told.size() > 0 ? told.data() : nullptr, output, machine.threads);
    const bool is_lost = makes_signs && !tells_nan && std::count(is_nan.begin(), is_nan.end(), 1) > 0;
    const int32_t right = !machine.is_known() ? 1 : is_lost ? 2 : 0;
    require(code == right, "px_binary_linear: code", -1, right, code);
    if (code == 1) require(is_untouched(y) && is_untouched(bits) && is_untouched(told), "px_binary_linear writes");
    if (code != 0) return;
    if (!makes_signs) return check_floats(p, epilogue, is_nan, y);
    check_words(p, epilogue.output, intervals, is_nan, bits);
    require(told.size() == 0 || told.is_still(is_nan), "px_binary_linear: rows of NaN");
}

}  // namespace fuzz
