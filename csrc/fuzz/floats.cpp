// Weight-only products, exact or with rows rounded to 8 bits.
#include "fuzz/epilogues.hpp"
#include "fuzz/geometries.hpp"
#include "fuzz/sign_weights.hpp"

namespace fuzz {
namespace {

// One row in the numbers that are multiplied, and what is known about them.
struct Row {
    std::vector<float> x;
    double size = 0;  // Σ|x| of what is finite
    float most = 0x1p-100f;
    bool is_finite = true;

    explicit Row(std::vector<float> entries) : x(std::move(entries)) {
        for (const float v : x) {
            if (std::isfinite(v)) size += std::fabs(static_cast<double>(v));
            most = std::fmax(most, std::fabs(v));
            is_finite &= std::isfinite(v);
        }
    }

    double sum(const int8_t* signs) const {
        double total = 0;
        for (size_t k = 0; k < x.size(); ++k) total += static_cast<double>(x[k]) * signs[k];
        return total;
    }

    // Whole numbers within ±127.
    float rounded_sum(const int8_t* signs) const {
        if (!is_finite) return NAN;
        const float inverse = 127.0f / most;
        int64_t total = 0;
        for (size_t k = 0; k < x.size(); ++k) {
            const float scaled = x[k] * inverse;
            total += static_cast<int64_t>(std::rint(scaled)) * signs[k];
        }
        return static_cast<float>(total) * (most / 127.0f);
    }
};

// Floats are summed in any order, so a sum must be near the sum of doubles unless some order overflows.
void check_near(const Row& row, const int8_t* signs, float scale, float bias, float found, int64_t at) {
    const double sum = row.sum(signs), expected = sum * scale + bias, entries = static_cast<double>(row.x.size());
    const double slack = (std::fabs(scale) * row.size * (entries + 4) + std::fabs(bias)) * 0x1p-23 +
                         (std::fabs(scale) * entries + 4) * 0x1p-148;
    const double most = std::fmax(row.size, std::fabs(scale) * row.size + std::fabs(bias));
    const bool overflows = most > FLT_MAX / 4;
    if (overflows || !std::isfinite(scale) || !std::isfinite(bias) || (scale == 0 && !row.is_finite)) return;
    if (row.is_finite) return require(std::fabs(found - expected) <= slack, "floats times signs", at, expected, found);
    require(equal(static_cast<float>(expected), found), "inf or NaN times signs", at, expected, found);
}

void check_rounded(const Row& row, const int8_t* signs, const Scaling& scaling, int64_t channel, float found,
                   int64_t at) {
    const float expected = scaling.of(row.rounded_sum(signs), channel);
    require(equal(expected, found), "rounded floats times signs", at, expected, found);
}

struct Product : Rows {
    SignWeight weight;

    static Product drawn(Draws& draws) {
        Rows rows = Rows::drawn(draws, {100, 300, 300}, 60000);
        const int64_t n = rows.n, entries = rows.entries;
        return {std::move(rows), SignWeight(draws, 1, n, entries)};
    }

    Row row(int64_t r) const {
        return Row(std::vector<float>(x.data() + r * stride, x.data() + r * stride + entries));
    }
};

void multiply(Draws& draws, bool rounds) {
    const Machine machine(draws);
    const Product p = Product::drawn(draws);
    const Scaling scaling(draws, p.n);
    const Fused fused = scaling.fused();
    Guarded<float> y(p.m * p.n, draws.coin());
    const int32_t code = px_weight_only_linear(machine.isa, rounds, p.x.data(), p.m, p.entries, p.stride,
                                               p.weight.panels(), p.n, &fused, nullptr, y.data(), machine.threads);
    require(code == !machine.is_known(), "floats times signs: code", -1, !machine.is_known(), code);
    if (code != 0) return require(is_untouched(y), "floats times signs: writes though it refuses");
    for (int64_t r = 0; r < p.m; ++r) {
        const Row row = p.row(r);
        for (int64_t c = 0; c < p.n; ++c) {
            const int64_t at = r * p.n + c;
            if (rounds) check_rounded(row, p.weight.row(c), scaling, c, y[at], at);
            else check_near(row, p.weight.row(c), scaling.scale(c), scaling.bias(c), y[at], at);
        }
    }
}

// Return the inputs of an output pixel for one group, with zeros outside the border.
Row patch(const Geometry& g, const std::vector<float>& x, int64_t image, int64_t out_pixel, int64_t group) {
    const int64_t inner = g.channels / g.groups;
    std::vector<float> entries;
    for (int64_t k = 0; k < taps_of(g) * inner; ++k) {
        const int64_t met = pixel_met(g, out_pixel, k / inner), c = group * inner + k % inner;
        const int64_t from = (image * g.size[0] * g.size[1] + met) * g.channels + c;
        entries.push_back(met < 0 ? 0.0f : x[static_cast<size_t>(from)]);
    }
    return Row(std::move(entries));
}

// Return the entries that a convolution reads, without the pixels that a kernel of one pixel skips.
Row image_read(const Geometry& g, const std::vector<float>& x, int64_t image) {
    const bool skips = taps_of(g) == 1 && g.padding[0] + g.padding[1] == 0;
    std::vector<float> entries;
    for (int64_t i = 0; i < g.size[0] * g.size[1] * g.channels; ++i) {
        const int64_t row = i / g.channels / g.size[1], column = i / g.channels % g.size[1];
        const bool is_read = row % g.stride[0] == 0 && column % g.stride[1] == 0;
        const size_t from = static_cast<size_t>(image * g.size[0] * g.size[1] * g.channels + i);
        if (!skips || is_read) entries.push_back(x[from]);
    }
    return Row(std::move(entries));
}

void convolve(Draws& draws, bool rounds) {
    const Machine machine(draws);
    const Geometry g = geometry(draws, true, Lies::ANYHOW, 30000);
    const Guarded<float> x = images(draws, g, draws.mood());
    const int64_t outer = g.out_channels / g.groups, n = g.out_channels;
    const SignWeight weight(draws, g.groups, outer, taps_of(g) * (g.channels / g.groups));
    const Scaling scaling(draws, n);
    const Fused fused = scaling.fused();
    Guarded<float> y(g.batch * out_pixels(g) * n, draws.coin());
    const int32_t code = px_weight_only_conv2d(machine.isa, rounds, x.data(), nullptr, &g, weight.panels(), &fused,
                                               nullptr, nullptr, y.data(), machine.threads);
    require(code == !machine.is_known(), "floats convolved with signs: code", -1, !machine.is_known(), code);
    if (code != 0) return require(is_untouched(y), "floats convolved with signs: writes though it refuses");
    const std::vector<float> all = without_gaps(g, x);
    std::vector<Row> wholes;
    for (int64_t image = 0; image < g.batch; ++image) wholes.push_back(image_read(g, all, image));
    for (int64_t i = 0; i < y.size(); i += outer) {
        const int64_t pixel = i / n, image = pixel / out_pixels(g);
        Row row = patch(g, all, image, pixel % out_pixels(g), i % n / outer);
        const Row& whole = wholes[static_cast<size_t>(image)];
        if (rounds) row.most = whole.most, row.is_finite = whole.is_finite;
        for (int64_t at = i; at < i + outer; ++at) {
            const int64_t c = at % n;
            if (rounds) check_rounded(row, weight.row(c), scaling, c, y[at], at);
            else check_near(row, weight.row(c), scaling.scale(c), scaling.bias(c), y[at], at);
        }
    }
}

}  // namespace

void weight_only_linear(Draws& draws) { multiply(draws, false); }
void dynamic_int8_linear(Draws& draws) { multiply(draws, true); }
void weight_only_conv2d(Draws& draws) { convolve(draws, false); }
void dynamic_int8_conv2d(Draws& draws) { convolve(draws, true); }

// Scales of groups of entries for each output, in the order that px_weight_only_linear takes, as floats or in 16 bits.
struct GroupScales {
    int64_t groups;
    Guarded<float> floats;
    Guarded<uint16_t> halves;

    static GroupScales drawn(Draws& draws, int64_t n, int64_t groups) {
        const int64_t count = (n + 31) / 32 * groups * 32;
        const bool are_halves = draws.coin();
        GroupScales drawn = {groups, fuzz::floats(draws, are_halves ? 0 : count, Mood::COMMON),
                             Guarded<uint16_t>(are_halves ? count : 0, draws.coin())};
        for (uint16_t& half : drawn.halves) half = static_cast<uint16_t>(draws.random());
        return drawn;
    }

    double of(int64_t channel, int64_t group) const {
        const int64_t place = (channel / 32 * groups + group) * 32 + channel % 32;
        if (halves.size() == 0) return floats[place];
        const int bits = halves[place], exponent = bits >> 10 & 31, fraction = bits & 1023;
        const double finite = exponent == 0 ? std::ldexp(fraction, -24) : std::ldexp(1024 + fraction, exponent - 25);
        const double size = exponent < 31 ? finite : fraction == 0 ? INFINITY : NAN;
        return bits >> 15 != 0 ? -size : size;
    }

    void give(Output& output) const {
        output.group_scale = halves.size() == 0 ? floats.data() : nullptr;
        output.half_group_scale = halves.size() == 0 ? nullptr : halves.data();
    }
};

// Sums of groups of entries with scales of their own, exact or rounded. Inputs are tame, since the products above are
// held to others.
void linear_in_groups(Draws& draws) {
    const Machine machine(draws);
    const bool rounds = draws.coin();
    const int64_t m = draws.within(0, 40), n = draws.within(1, draws.coin() ? 100 : 300);
    const int64_t group = 64 * draws.within(1, 6);
    const int64_t groups = draws.within(1, 4), entries = group * groups, stride = entries + draws.within(0, 3);
    const Guarded<float> x = floats(draws, m * stride, Mood::COMMON);
    const GroupScales scales = GroupScales::drawn(draws, n, groups);
    const SignWeight weight(draws, 1, n, entries);
    const Scaling scaling(draws, n);
    Fused fused = scaling.fused();
    fused.output.group = group, scales.give(fused.output);
    Guarded<float> y(m * n, draws.coin());
    const int32_t code = px_weight_only_linear(machine.isa, rounds, x.data(), m, entries, stride, weight.panels(), n,
                                               &fused, nullptr, y.data(), machine.threads);
    require(code == !machine.is_known(), "groups times signs: code", -1, !machine.is_known(), code);
    if (code != 0) return require(is_untouched(y), "groups times signs: writes though it refuses");
    for (int64_t at = 0; at < m * n; ++at) {
        const int64_t c = at % n;
        const float* const row = x.data() + at / n * stride;
        const Row whole(std::vector<float>(row, row + entries));
        double sum = 0, size = 0;
        for (int64_t g = 0; g < groups; ++g) {
            Row part(std::vector<float>(row + g * group, row + (g + 1) * group));
            part.most = whole.most;
            const int8_t* const signs = weight.row(c) + g * group;
            const double by = scales.of(c, g);
            sum += by * (rounds ? part.rounded_sum(signs) : part.sum(signs)), size += std::fabs(by) * part.size;
        }
        const double expected = sum * scaling.scale(c) + scaling.bias(c);
        const double slack = (std::fabs(scaling.scale(c)) * size * 2 + std::fabs(scaling.bias(c))) *
                                 static_cast<double>(entries + 8) * 0x1p-23 +
                             static_cast<double>(groups + 4) * 0x1p-149;  // below the least float
        const double most = std::fabs(scaling.scale(c)) * size + std::fabs(scaling.bias(c));
        if (!(size < FLT_MAX / 4 && most < FLT_MAX / 4)) continue;  // nor NaN
        require(std::fabs(y[at] - expected) <= slack, "groups times signs", at, expected, y[at]);
    }
}

// The products must equal those without steps bit by bit.
void fused_float_linear(Draws& draws) {
    const Machine machine(draws);
    const Product p = Product::drawn(draws);
    const Epilogue epilogue(draws, p.m, p.n, true);
    const Fused fused = epilogue.fused();
    const bool rounds = draws.coin();
    Guarded<float> plain(p.m * p.n), y(p.m * p.n, draws.coin());
    const Fused scaled = epilogue.scaling.fused();
    px_weight_only_linear(machine.isa, rounds, p.x.data(), p.m, p.entries, p.stride, p.weight.panels(), p.n, &scaled,
                          nullptr, plain.data(), machine.threads);
    const int32_t code =
        px_weight_only_linear(machine.isa, rounds, p.x.data(), p.m, p.entries, p.stride, p.weight.panels(), p.n, &fused,
                              epilogue.others(), y.data(), machine.threads);
    require(code == !machine.is_known(), "px_weight_only_linear: code", -1, !machine.is_known(), code);
    if (code != 0) return require(is_untouched(y), "px_weight_only_linear writes though it refuses");
    for (int64_t i = 0; i < y.size(); ++i) {
        const float expected = epilogue.stepped(plain[i], i % p.n, i);
        require(equal(expected, y[i]), "px_weight_only_linear", i, expected, y[i]);
    }
}

}  // namespace fuzz
