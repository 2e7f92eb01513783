// Latents through pairs, and gradients through their slopes.
#include <cmath>
#include <limits>
#include <vector>

#include "fuzz/entries.hpp"

namespace fuzz {
namespace {

// Rows of float32 or bfloat16.
struct Latents {
    bool is_bfloat16;
    int64_t entries, columns;
    Guarded<float> floats;
    Guarded<uint16_t> halves;

    static Latents drawn(Draws& draws, bool is_bfloat16, int64_t entries, int64_t columns, Mood mood) {
        Latents made = {is_bfloat16, entries, columns, fuzz::floats(draws, is_bfloat16 ? 0 : entries, mood),
                        Guarded<uint16_t>(is_bfloat16 ? entries : 0, draws.coin())};
        for (uint16_t& half : made.halves) {
            const float v = draws.number(mood);
            uint32_t bits;
            std::memcpy(&bits, &v, sizeof bits);
            half = static_cast<uint16_t>(std::isnan(v) ? 0x7fc0 : bits >> 16);
        }
        return made;
    }

    int64_t rows() const { return (entries + columns - 1) / columns; }
    int64_t end(int64_t row) const { return std::min(entries, (row + 1) * columns); }
    void* data() { return is_bfloat16 ? static_cast<void*>(halves.data()) : floats.data(); }
    const void* data() const { return is_bfloat16 ? static_cast<const void*>(halves.data()) : floats.data(); }
    bool is_untouched() const { return fuzz::is_untouched(halves) && fuzz::is_untouched(floats); }

    double operator[](int64_t i) const {
        if (!is_bfloat16) return floats[i];
        const uint32_t bits = static_cast<uint32_t>(halves[i]) << 16;
        float v;
        std::memcpy(&v, &bits, sizeof v);
        return v;
    }

    double rounding() const { return is_bfloat16 ? 0x1p-7 : 3e-5; }  // of what is written, relative
};

double sign_of(double x) { return x < 0 ? -1 : 1; }

double value_of(int32_t curve, double x, double mu) {
    const double u = mu * x, h = std::tanh(u / 2), size = std::fabs(x);
    switch (curve) {
        case CLIP: return std::clamp(u, -1.0, 1.0);
        case POLYNOMIAL: return std::fabs(u) < 1 ? u * (2 - std::fabs(u)) : sign_of(x);
        case TANH: return std::tanh(u);
        case ERROR_DECAY: return std::tanh(u) / std::fmin(mu, 1);
        case SIGN_SWISH: return h + u / 2 * (1 - h * h);
        case PROXCONNECT: return sign_of(x) * std::fmin(1, 1 - 1 / mu + size);
        case BINARYRELAX: return x / mu + (1 - 1 / mu) * sign_of(x);
        default: return sign_of(x);
    }
}

double slope_of(int32_t curve, double x, double mu) {
    const double u = mu * x, h = std::tanh(u / 2), t = std::tanh(u);
    switch (curve) {
        case CLIP: return std::fabs(u) <= 1 ? mu : 0;
        case POLYNOMIAL: return std::fabs(u) < 1 ? mu * 2 * (1 - std::fabs(u)) : 0;
        case TANH: return mu * (1 - t * t);
        case ERROR_DECAY: return mu / std::fmin(mu, 1) * (1 - t * t);
        default: return mu * (1 - h * h) * (1 - u / 2 * h);
    }
}

struct Curved {
    int32_t curve;
    float mu;

    explicit Curved(Draws& draws, int32_t last) {
        curve = static_cast<int32_t>(draws.within(SIGN, last));
        mu = draws.one_of({1.0f, 1.5f, 4.0f, 100.0f, 0.25f, 0.01f});
        if (curve >= PROXCONNECT && mu < 1) mu = 1 / mu;
    }
};

int64_t columns_of(Draws& draws) { return draws.rarely() ? draws.within(1, 10000) : draws.size(200); }

// Several rows. The last may be shorter.
int64_t entries_of(Draws& draws, int64_t columns) {
    const int64_t whole = columns * draws.below(5);
    return std::max<int64_t>(whole + draws.below(columns), 1);
}

// Σ|x|/n, and whether float32 holds the sums of a row and no quotient is denormal.
double mean_of(const Latents& x, int64_t row, bool& is_common) {
    double sum = 0;
    for (int64_t i = row * x.columns; i < x.end(row); ++i) sum += std::fabs(x[i]);
    const double mean = sum / static_cast<double>(x.end(row) - row * x.columns);
    is_common = sum == 0 || (mean > 1e-30 && sum < 1e37);
    return mean;
}

double fitted(const Latents& x, int64_t row, const Curved& c, double mean) {
    double correlation = 0, energy = 0;
    for (int64_t i = row * x.columns; i < x.end(row); ++i) {
        const double f = value_of(c.curve, x[i] / mean, c.mu);
        correlation += x[i] * f, energy += f * f;
    }
    return energy == 0 ? mean : correlation / energy;
}

// Replace denormal numbers by 0, or by the least normal number if F jumps at 0, unless the scale is that small too.
double counted(double x, double divisor, const Curved& c) {
    constexpr double least = std::numeric_limits<float>::min();
    if (x == 0 || std::fabs(x) >= least || divisor < 0x1p-90) return x;
    return std::copysign(c.curve == SIGN || (c.curve >= PROXCONNECT && c.mu > 1) ? least : 0.0, x);
}

void check_row(const Latents& x, const Latents& y, int64_t row, const Curved& c, double by, double divisor) {
    for (int64_t i = row * x.columns; i < x.end(row); ++i) {
        const double point = counted(x[i], divisor, c) / divisor, expected = by * value_of(c.curve, point, c.mu);
        if (point != 0 && std::fabs(point) < 1e-30) continue;  // which underflows, on whose sign F may depend
        const double error = y.rounding() * std::fabs(expected) + 1e-34;
        require(std::fabs(y[i] - expected) <= error, "px_quantize", i, expected, y[i]);
    }
}

}  // namespace

void quantize(Draws& draws) {
    const Machine machine(draws);
    const bool is_bfloat16 = draws.coin(), is_unit = draws.coin(), is_scaled = draws.below(4) > 0, marks = draws.coin();
    const int64_t columns = columns_of(draws), entries = entries_of(draws, columns);
    const Curved c(draws, BINARYRELAX);
    const Latents x = Latents::drawn(draws, is_bfloat16, entries, columns, draws.mood());
    Latents y = {is_bfloat16, entries, columns, Guarded<float>(is_bfloat16 ? 0 : entries, draws.coin()),
                 Guarded<uint16_t>(is_bfloat16 ? entries : 0, draws.coin())};
    Guarded<float> statistics(is_scaled ? 2 * x.rows() : 0, draws.coin());
    Guarded<uint8_t> inside(marks ? entries : 0, draws.coin());
    const int32_t code = px_quantize(machine.isa, is_bfloat16, c.curve, is_unit, c.mu, entries, columns, x.data(),
                                     y.data(), is_scaled ? statistics.data() : nullptr,
                                     marks ? inside.data() : nullptr, machine.threads);
    require(code == !machine.is_known(), "px_quantize: code", -1, !machine.is_known(), code);
    if (code != 0) {
        const bool is_clean = y.is_untouched() && is_untouched(statistics) && is_untouched(inside);
        return require(is_clean, "px_quantize writes though it refuses");
    }
    for (int64_t row = 0; row < x.rows(); ++row) {
        const double bound = is_scaled ? statistics[row] : 1;
        for (int64_t i = row * columns; marks && i < x.end(row); ++i) {
            require(inside[i] == !(std::fabs(x[i]) > bound), "px_quantize: inside", i, bound, x[i]);
        }
        bool is_common;
        const double mean = mean_of(x, row, is_common), divisor = !is_scaled || mean == 0 ? 1 : mean;
        if (!is_common) continue;
        const double alpha = fitted(x, row, c, divisor), unit = is_unit ? divisor : 1;
        const double by = !is_scaled ? 1 : mean == 0 ? (is_unit ? 1 : 0) : alpha / unit;
        if (std::fabs(by) > 1e37) continue;  // α is beyond float32
        check_row(x, y, row, c, by, divisor);
        if (!is_scaled || mean == 0) continue;
        const double factor = alpha / mean / unit;
        require(std::fabs(statistics[row] - divisor) <= 1e-5 * divisor, "px_quantize: divisor", row, divisor, bound);
        const double found = statistics[x.rows() + row];
        require(std::fabs(found - factor) <= 3e-5 * std::fabs(factor), "px_quantize: factor", row, factor, found);
    }
}

namespace {

void check_products(const Latents& x, const Latents& g, const Latents& y, const Curved& c, bool is_scaled,
                    const Guarded<float>& statistics, bool marks, const Guarded<uint8_t>& inside) {
    for (int64_t i = 0; i < x.entries; ++i) {
        const int64_t row = i / x.columns;
        const double divisor = is_scaled ? statistics[row] : 1, factor = is_scaled ? statistics[x.rows() + row] : 1;
        const double point = x[i] / divisor, u = std::fabs(point * c.mu);
        const bool is_edge = c.curve == CLIP && std::fabs(u - 1) < 1e-5;
        const bool is_step = c.curve == SIGN;
        if (!std::isfinite(g[i]) || (!is_step && (!std::isfinite(x[i]) || is_edge)) || u > 1e30) continue;
        const double slope = is_step ? (marks ? inside[i] : 1) : slope_of(c.curve, point, c.mu);
        const double expected = factor * slope * g[i];
        if (std::fabs(expected) > 1e37) continue;
        const double most = std::fabs(factor * g[i]) * (is_step ? 1 : std::fmax(c.mu, 1));
        const double error = y.rounding() * std::fabs(expected) + 3e-5 * most + 1e-34;
        require(std::fabs(y[i] - expected) <= error, "px_quantize_backward", i, expected, y[i]);
    }
}

}  // namespace

void quantize_backward(Draws& draws) {
    const Machine machine(draws);
    const bool is_bfloat16 = draws.coin(), is_scaled = draws.coin(), marks = draws.coin();
    const int64_t columns = columns_of(draws), entries = entries_of(draws, columns);
    const Curved c(draws, SIGN_SWISH);
    const Latents x = Latents::drawn(draws, is_bfloat16, entries, columns, draws.mood());
    const Latents g = Latents::drawn(draws, is_bfloat16, entries, columns, draws.mood());
    Latents y = {is_bfloat16, entries, columns, Guarded<float>(is_bfloat16 ? 0 : entries, draws.coin()),
                 Guarded<uint16_t>(is_bfloat16 ? entries : 0, draws.coin())};
    Guarded<float> statistics = floats(draws, is_scaled ? 2 * x.rows() : 0, Mood::COMMON);
    for (int64_t row = 0; is_scaled && row < x.rows(); ++row) statistics[row] = std::fabs(statistics[row]) + 0.01f;
    Guarded<uint8_t> inside(marks ? entries : 0, draws.coin());
    for (uint8_t& byte : inside) byte = draws.random() & 1;
    const int32_t code = px_quantize_backward(
        machine.isa, is_bfloat16, c.curve, c.mu, entries, columns, c.curve == SIGN ? nullptr : x.data(), g.data(),
        is_scaled ? statistics.data() : nullptr, marks ? inside.data() : nullptr, y.data(), machine.threads);
    require(code == !machine.is_known(), "px_quantize_backward: code", -1, !machine.is_known(), code);
    if (code != 0) return require(y.is_untouched(), "px_quantize_backward writes though it refuses");
    check_products(x, g, y, c, is_scaled, statistics, marks, inside);
}

}  // namespace fuzz
