// Weight-only products against sums in double precision, one entry at a time.
#include <cmath>
#include <cstdio>
#include <cstring>
#include <random>
#include <vector>

#include "proxconnect.h"
#include "tests/test_images.hpp"

namespace {

constexpr Fused PLAIN = {{NEVER, 8, 1.0f, 0, nullptr, nullptr}, 0, nullptr, nullptr};

struct Drawn {
    int64_t m, n, entries, stride;
    std::vector<float> floats, scale, bias;
    std::vector<uint64_t> panels;

    const float* x() const { return floats.data() + (stride - entries); }  // no row begins where a vector does
    const float* row(int64_t r) const { return x() + r * stride; }

    int sign(int64_t channel, int64_t k) const {
        const int64_t width = (entries + 63) / 64;
        const uint64_t word = panels[static_cast<size_t>((channel / 8 * width + k / 64) * 8 + channel % 8)];
        return word >> (k % 64) & 1 ? 1 : -1;
    }

    int32_t multiply(int32_t isa, bool rounds, const Fused& fused, std::vector<float>& y, int32_t threads) const {
        return px_weight_only_linear(isa, rounds, x(), m, entries, stride, panels.data(), n, &fused, nullptr, y.data(),
                                     threads);
    }
};

Drawn drawn(int64_t m, int64_t n, int64_t entries) {
    std::mt19937_64 random(static_cast<unsigned>(m + 31 * n + 977 * entries));
    std::normal_distribution<float> normal;
    Drawn d = {m, n, entries, entries + m % 2, {}, {}, {}, {}};
    d.floats.resize(static_cast<size_t>(m * d.stride + d.stride - entries));
    d.scale.resize(static_cast<size_t>(n)), d.bias.resize(static_cast<size_t>(n));
    for (std::vector<float>* values : {&d.floats, &d.scale, &d.bias}) {
        for (float& value : *values) value = normal(random);
    }
    d.panels.resize(static_cast<size_t>((n + 7) / 8 * ((entries + 63) / 64) * 8));
    for (uint64_t& word : d.panels) word = random();  // also beyond the last row and entry, where it must not matter
    return d;
}

bool is_close(int32_t isa, const Drawn& d, int32_t threads) {
    const Fused fused = {{NEVER, 8, 1, d.n, d.scale.data(), d.bias.data()}, 0, nullptr, nullptr};
    std::vector<float> y(static_cast<size_t>(d.m * d.n), NAN);
    if (d.multiply(isa, false, fused, y, threads)) return false;
    for (int64_t i = 0; i < d.m * d.n; ++i) {
        const int64_t r = i / d.n, channel = i % d.n;
        double sum = 0, size = 0;
        for (int64_t k = 0; k < d.entries; ++k) {
            sum += static_cast<double>(d.row(r)[k]) * d.sign(channel, k), size += std::fabs(d.row(r)[k]);
        }
        const double scale = d.scale[static_cast<size_t>(channel)], bias = d.bias[static_cast<size_t>(channel)];
        const double slack = std::fabs(scale) * size * static_cast<double>(d.entries + 4) + std::fabs(bias);
        if (!(std::fabs(y[static_cast<size_t>(i)] - (sum * scale + bias)) <= slack * 0x1p-24)) return false;
    }
    return true;
}

// Scales of groups for each output, as floats and as the same numbers of 16 bits. Those that are read and not used are
// NaN.
struct GroupScales {
    int64_t groups;
    std::vector<float> floats;
    std::vector<uint16_t> halves;

    GroupScales(int64_t n, int64_t count) : groups(count) {
        floats.resize(static_cast<size_t>((n + 31) / 32 * groups * 32), NAN);
        halves.resize(floats.size(), 0x7e00);
        for (int64_t i = 0; i < n * groups; ++i) {
            const float value = 0.5f + static_cast<float>(i % 7);
            uint32_t bits;
            std::memcpy(&bits, &value, sizeof bits);
            floats[place(i % n, i / n)] = value;
            halves[place(i % n, i / n)] = static_cast<uint16_t>((bits >> 13) - (112 << 10));
        }
    }

    size_t place(int64_t channel, int64_t group) const {
        return static_cast<size_t>((channel / 32 * groups + group) * 32 + channel % 32);
    }
};

// Groups of entries, each with scales of its own. Those of 16 bits give the same, bit by bit.
bool scales_groups(int32_t isa, const Drawn& d, int64_t group, bool rounds, int32_t threads) {
    const GroupScales scales(d.n, d.entries / group);
    Fused fused = {{NEVER, 8, 1, 0, nullptr, d.bias.data(), group, scales.floats.data()}, 0, nullptr, nullptr};
    std::vector<float> y(static_cast<size_t>(d.m * d.n), NAN), by_halves = y;
    if (d.multiply(isa, rounds, fused, y, threads)) return false;
    fused.output.group_scale = nullptr, fused.output.half_group_scale = scales.halves.data();
    if (d.multiply(isa, rounds, fused, by_halves, threads) || y != by_halves) return false;
    std::vector<float> weight;
    for (int64_t channel = 0; channel < d.n; ++channel) {
        for (int64_t k = 0; k < d.entries; ++k) {
            const float scale = scales.floats[scales.place(channel, k / group)];
            weight.push_back(scale * static_cast<float>(d.sign(channel, k)));
        }
    }
    for (int64_t r = 0; r < d.m; ++r) {
        float most = 0x1p-100f;
        for (int64_t k = 0; k < d.entries; ++k) most = std::fmax(most, std::fabs(d.row(r)[k]));
        const float inverse = 127.0f / most, step = most / 127.0f;
        std::vector<float> x(d.row(r), d.row(r) + d.entries);
        for (float& value : x) value = rounds ? std::rint(value * inverse) * step : value;
        for (int64_t channel = 0; channel < d.n; ++channel) {
            double sum = d.bias[static_cast<size_t>(channel)], size = std::fabs(sum);
            for (int64_t k = 0; k < d.entries; ++k) {
                const float value = x[static_cast<size_t>(k)], by = weight[static_cast<size_t>(channel * d.entries + k)];
                sum += static_cast<double>(value) * by, size += std::fabs(value * by);
            }
            const double slack = size * static_cast<double>(d.entries + 8) * 0x1p-24;
            if (!(std::fabs(y[static_cast<size_t>(r * d.n + channel)] - sum) <= slack)) return false;
        }
    }
    return true;
}

bool equals_integers(int32_t isa, const Drawn& d, int32_t threads) {
    const Fused fused = {{NEVER, 8, 1, 0, nullptr, d.bias.data()}, 0, nullptr, nullptr};
    std::vector<float> y(static_cast<size_t>(d.m * d.n), NAN);
    if (d.multiply(isa, true, fused, y, threads)) return false;
    for (int64_t r = 0; r < d.m; ++r) {
        float most = 0x1p-100f;
        for (int64_t k = 0; k < d.entries; ++k) most = std::fmax(most, std::fabs(d.row(r)[k]));
        const float inverse = 127.0f / most;
        std::vector<int32_t> levels;
        for (int64_t k = 0; k < d.entries; ++k) {
            const float scaled = d.row(r)[k] * inverse;
            levels.push_back(static_cast<int32_t>(std::rint(scaled)));
        }
        for (int64_t channel = 0; channel < d.n; ++channel) {
            int32_t sum = 0;
            for (int64_t k = 0; k < d.entries; ++k) sum += levels[static_cast<size_t>(k)] * d.sign(channel, k);
            const float product = static_cast<float>(sum) * (most / 127.0f);
            const float expected = product + d.bias[static_cast<size_t>(channel)];
            if (y[static_cast<size_t>(r * d.n + channel)] != expected) return false;
        }
    }
    return true;
}

bool nan_stays_in_its_row(int32_t isa) {
    for (const float what : {NAN, INFINITY, -INFINITY}) {
        Drawn d = drawn(40, 9, 70);
        d.floats[static_cast<size_t>(d.stride * 7 + 66)] = what;
        std::vector<float> exact(40 * 9), rounded(40 * 9);
        d.multiply(isa, false, PLAIN, exact, 1);
        d.multiply(isa, true, PLAIN, rounded, 1);
        for (int64_t i = 0; i < 40 * 9; ++i) {
            const float expected = static_cast<float>(d.sign(i % 9, 66)) * what;
            const float y = exact[static_cast<size_t>(i)];
            if (i / 9 != 7 ? !std::isfinite(y) : std::isnan(what) ? !std::isnan(y) : y != expected) return false;
            if (std::isnan(rounded[static_cast<size_t>(i)]) != (i / 9 == 7)) return false;
        }
    }
    return true;
}

// Return rows whose products with the first output add up to the largest possible sum.
Drawn with_largest_sums(Drawn d) {
    for (int64_t k = 0; k < d.m * d.stride; ++k) {
        const int sign = d.sign(0, k % d.stride % d.entries);
        d.floats[static_cast<size_t>(d.stride - d.entries + k)] = static_cast<float>(sign);
    }
    return d;
}

// Return one output of a convolution, one entry at a time.
double convolved(const Geometry& g, const float* image, const uint64_t* panels, int64_t pixel, int64_t channel) {
    const int64_t inner = g.channels / g.groups, outer = g.out_channels / g.groups;
    const int64_t entries = inner * g.kernel[0] * g.kernel[1], width = (entries + 63) / 64, group = channel / outer;
    const int64_t row_of_group = channel % outer, panels_before = group * ((outer + 7) / 8) + row_of_group / 8;
    const uint64_t* const panel = panels + panels_before * width * 8 + row_of_group % 8;
    double sum = 0;
    for (int64_t tap = 0; tap < g.kernel[0] * g.kernel[1]; ++tap) {
        const int64_t met = pixel_met(g, pixel, tap);
        if (met < 0) continue;
        for (int64_t k = tap * inner, c = group * inner; c < (group + 1) * inner; ++k, ++c) {
            const double x = image[c * g.channel_stride + met * g.pixel_stride];
            sum += panel[k / 64 * 8] >> (k % 64) & 1 ? x : -x;
        }
    }
    return sum;
}

// Images of small whole numbers, which 8 bits hold. Sums of any order are equal.
bool convolves(int32_t isa, const Geometry& g, int32_t threads) {
    std::mt19937_64 random(static_cast<unsigned>(g.channels));
    const int64_t inner = g.channels / g.groups;
    std::vector<float> x(static_cast<size_t>(g.batch * g.image_stride), 127.0f);
    for (size_t i = 0; i < x.size(); i += 1 + random() % 2) x[i] = static_cast<float>(random() % 255) - 127.0f;
    const int64_t width = (inner * g.kernel[0] * g.kernel[1] + 63) / 64;
    std::vector<uint64_t> panels(static_cast<size_t>(g.groups * ((g.out_channels / g.groups + 7) / 8) * width * 8));
    for (uint64_t& word : panels) word = random();
    const int64_t count = g.batch * g.out_size[0] * g.out_size[1] * g.out_channels;
    std::vector<float> exact(static_cast<size_t>(count), NAN), rounded(static_cast<size_t>(count), NAN);
    for (const bool rounds : {false, true}) {
        if (px_weight_only_conv2d(isa, rounds, x.data(), nullptr, &g, panels.data(), &PLAIN, nullptr, nullptr,
                                  (rounds ? rounded : exact).data(), threads)) {
            return false;
        }
    }
    for (int64_t i = 0; i < count; ++i) {
        const int64_t pixel = i / g.out_channels % (g.out_size[0] * g.out_size[1]);
        const float* const image = x.data() + i / (g.out_size[0] * g.out_size[1] * g.out_channels) * g.image_stride;
        const double sum = convolved(g, image, panels.data(), pixel, i % g.out_channels);
        if (exact[static_cast<size_t>(i)] != sum) return false;
        if (rounded[static_cast<size_t>(i)] != sum) return false;
    }
    return true;
}

}  // namespace

int check_weight_only(int32_t isa, int& runs) {
    int failures = 0;
    const auto check = [&](bool is_right, const char* what, int64_t m, int64_t n, int64_t entries) {
        ++runs;
        if (is_right) return;
        ++failures;
        std::printf("isa %d: %s: m %lld n %lld entries %lld\n", isa, what, (long long)m, (long long)n,
                    (long long)entries);
    };
    for (const int64_t m : {0, 1, 2, 7, 17, 35}) {
        for (const int64_t n : {1, 9, 65}) {
            for (const int64_t entries : {1, 5, 31, 33, 64, 65, 129}) {
                const Drawn d = drawn(m, n, entries);
                check(is_close(isa, d, 1 + m % 2), "exact", m, n, entries);
                check(equals_integers(isa, d, 1 + m % 2), "int8", m, n, entries);
            }
        }
    }
    for (const int64_t entries : {2047, 4097}) {  // beyond what is taken at once
        for (const int64_t m : {1, 6, 33}) {
            const Drawn d = drawn(m, 66, entries);
            check(is_close(isa, d, 1), "exact", m, 66, entries);
            check(equals_integers(isa, d, 1), "int8", m, 66, entries);
        }
    }
    for (const int64_t n : {130, 200, 225}) {  // which have all widths of tiles
        for (const int64_t entries : {64, 640}) {
            for (const int64_t m : {6, 17}) {
                const Drawn d = drawn(m, n, entries);
                check(equals_integers(isa, d, 1 + m % 2), "int8", m, n, entries);
                check(equals_integers(isa, with_largest_sums(d), 1), "largest sums", m, n, entries);
            }
        }
    }
    for (const int64_t m : {0, 1, 3, 6, 17, 33}) {
        for (const int64_t n : {1, 9, 66, 225}) {
            for (const int64_t entries : {64, 128, 4864}) {  // the last beyond what is taken at once
                if (entries > 128 && (m == 3 || m == 17 || n == 66)) continue;
                const Drawn d = drawn(m, n, entries);
                for (const int64_t group : {int64_t{64}, int64_t{128}, entries}) {
                    if (entries % group != 0) continue;
                    check(scales_groups(isa, d, group, false, 1 + m % 2), "groups", m, n, entries);
                    check(scales_groups(isa, d, group, true, 1 + m % 2), "int8 groups", m, n, entries);
                }
            }
        }
    }
    check(is_close(isa, drawn(97, 200, 300), 3), "threads", 97, 200, 300);
    for (const int64_t m : {3, 9}) check(equals_integers(isa, drawn(m, 1100, 1000), 3), "threads", m, 1100, 1000);
    check(equals_integers(isa, drawn(97, 200, 300), 3), "threads", 97, 200, 300);
    for (const int64_t channels : {1, 3, 4, 32, 35, 64}) {
        for (const int64_t groups : {1, 2}) {
            for (const int64_t step : {1, 2}) {
                for (const bool is_channels_last : {false, true}) {
                    const Geometry g = small_images(channels * groups, 9 * groups, groups, step, is_channels_last);
                    check(convolves(isa, g, static_cast<int32_t>(step)), "convolution", groups, step, channels);
                }
            }
        }
    }
    check(convolves(isa, larger_images(32, 40, 2, true), 2), "convolution with strides", 1, 40, 32);
    for (const int64_t step : {1, 2}) {
        check(convolves(isa, larger_images(64, 60, step, step == 1), 2), "convolution of words", step, 60, 64);
    }
    check(convolves(isa, larger_images(192, 200, 3, true), 1), "convolution of three words", 3, 200, 192);
    check(nan_stays_in_its_row(isa), "NaN", 40, 9, 70);
    return failures;
}
