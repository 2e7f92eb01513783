// Compare the kernels with integers, one entry at a time, for every instruction set that this machine runs, or for
// those that are named. A program of its own runs under sanitizers, under qemu-user and with emulated tiles: `make
// test-asan`, `make test-tsan`, `make test-arm`, `make test-amx`.
//
// test_kernels [NAME ...]
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "proxconnect.h"
#include "tests/test_images.hpp"

// In the files of these names.
int check_weight_only(int32_t isa, int& runs);
int check_fused(int32_t isa, int& runs);
int check_int8(int32_t isa, int& runs);
int check_attention(int32_t isa, int& runs);
int check_float_conv(int32_t isa, int& runs);
int check_threads(int32_t isa, int& runs);
int check_parts(int& runs);

namespace {

// As proxconnect.h numbers them.
const char* const NAMES[] = {"portable", "avx2", "avx512", "neon", "amx", "avx512_vnni"};

int runs = 0, failures = 0;

std::vector<uint64_t> panels_of(const std::vector<int>& weight, int64_t n, int64_t entries) {
    const int64_t width = (entries + 63) / 64;
    std::vector<uint64_t> panels(static_cast<size_t>((n + 7) / 8 * width * 8));
    for (int64_t row = 0; row < n; ++row) {
        for (int64_t k = 0; k < entries; ++k) {
            const uint64_t bit = weight[static_cast<size_t>(row * entries + k)] > 0;
            panels[static_cast<size_t>((row / 8 * width + k / 64) * 8 + row % 8)] |= bit << (k % 64);
        }
    }
    return panels;
}

std::vector<uint64_t> panels_of_groups(const std::vector<int>& weight, int64_t groups, int64_t rows, int64_t entries) {
    std::vector<uint64_t> panels;
    for (int64_t group = 0; group < groups; ++group) {
        const auto first = weight.begin() + group * rows * entries;
        const std::vector<uint64_t> mine = panels_of(std::vector<int>(first, first + rows * entries), rows, entries);
        panels.insert(panels.end(), mine.begin(), mine.end());
    }
    return panels;
}

// Return the bits of all rows, one for each entry.
std::vector<uint64_t> planes_of(const std::vector<int>& weight, int64_t n, int64_t entries) {
    const int64_t width = (n + 63) / 64;
    std::vector<uint64_t> planes(static_cast<size_t>(entries * width));
    for (int64_t row = 0; row < n; ++row) {
        for (int64_t k = 0; k < entries; ++k) {
            const uint64_t bit = weight[static_cast<size_t>(row * entries + k)] > 0;
            planes[static_cast<size_t>(k * width + row / 64)] |= bit << (row % 64);
        }
    }
    return planes;
}

int64_t held(int64_t sum, const Output& output) {
    const int64_t bound = int64_t{1} << (output.bits - 1);
    if (output.overflow == NEVER) return sum;
    if (output.overflow == SATURATE) return sum < -bound ? -bound : sum > bound - 1 ? bound - 1 : sum;
    while (sum < -bound) sum += 2 * bound;
    while (sum >= bound) sum -= 2 * bound;
    return sum;
}

std::vector<int> signs_of(const std::vector<float>& x) {
    std::vector<int> signs;
    for (const float value : x) signs.push_back(value >= 0 ? 1 : -1);
    return signs;
}

// Rows of floats, a weight, and the sums of the products of their signs.
struct Product {
    int64_t m, n, entries, stride;
    std::vector<float> floats, scale;
    std::vector<uint64_t> panels;
    std::vector<int64_t> sums;

    const float* x() const { return floats.data() + (stride - entries); }  // no word begins where a vector does

    Product(int64_t m, int64_t n, int64_t entries) : m(m), n(n), entries(entries), stride(entries + m % 2) {
        std::mt19937 random(static_cast<unsigned>(m + 31 * n + 977 * entries));
        std::normal_distribution<float> normal;
        floats.resize(static_cast<size_t>(m * stride + stride - entries)), scale.resize(static_cast<size_t>(n));
        for (std::vector<float>* values : {&floats, &scale}) {
            for (float& value : *values) value = normal(random);
        }
        const std::vector<int> signs = signs_of(floats);
        const int* const first = signs.data() + (stride - entries);
        std::vector<int> weight(static_cast<size_t>(n * entries));
        for (int& sign : weight) sign = random() % 2 == 0 ? -1 : 1;
        for (int64_t k = 0; m * n > 0 && k < entries; ++k) weight[static_cast<size_t>(k)] = -first[k];  // the least sum
        panels = panels_of(weight, n, entries);
        for (int64_t i = 0; i < m * n; ++i) {
            const int *const row = first + i / n * stride, *const channel = weight.data() + i % n * entries;
            sums.push_back(std::inner_product(row, row + entries, channel, int64_t{0}));
        }
    }
};

bool agrees(int32_t isa, const Product& p, Output output, int32_t threads) {
    output.scale = output.scales == 0 ? nullptr : p.scale.data();
    const Fused fused = {output, 0, nullptr, nullptr};
    std::vector<float> y(p.sums.size(), 12345.0f);
    if (px_binary_linear(isa, p.x(), nullptr, nullptr, p.m, p.entries, p.stride, p.panels.data(), p.n, &fused, nullptr,
                         nullptr, y.data(), threads) != 0) {
        return false;
    }
    for (size_t i = 0; i < y.size(); ++i) {
        float expected = static_cast<float>(held(p.sums[i], output));
        if (output.scales != 0) expected *= p.scale[output.scales == 1 ? 0 : i % static_cast<size_t>(p.n)];
        if (y[i] != expected) return false;
    }
    return true;
}

// Return one sum of a convolution, one product at a time. Rows of the weight are (tap, channel of a group).
int64_t convolved(const Geometry& g, const int* image, const int* weight, int64_t pixel, int64_t channel) {
    const int64_t inner = g.channels / g.groups, outer = g.out_channels / g.groups, taps = g.kernel[0] * g.kernel[1];
    const int* sign = weight + channel * taps * inner;
    int64_t sum = 0;
    for (int64_t tap = 0; tap < taps; ++tap) {
        const int64_t met = pixel_met(g, pixel, tap), first = channel / outer * inner * g.channel_stride;
        const int* const of_pixel = image + first + met * g.pixel_stride;
        for (int64_t c = 0; c < inner; ++c) sum += *sign++ * (met < 0 ? g.border : of_pixel[c * g.channel_stride]);
    }
    return sum;
}

bool convolves(int32_t isa, const Geometry& g, int32_t threads) {
    std::mt19937 random(static_cast<unsigned>(g.channels + 7 * g.out_channels + 31 * g.size[1]));
    std::normal_distribution<float> normal;
    const int64_t inner = g.channels / g.groups, outer = g.out_channels / g.groups;
    const int64_t entries = g.kernel[0] * g.kernel[1] * inner, out_pixels = g.out_size[0] * g.out_size[1];
    std::vector<float> x(static_cast<size_t>(g.batch * g.image_stride));
    for (float& value : x) value = normal(random);
    const std::vector<int> signs = signs_of(x);
    std::vector<int> weight(static_cast<size_t>(g.out_channels * entries));
    for (int& sign : weight) sign = random() % 2 == 0 ? -1 : 1;
    const std::vector<uint64_t> panels = g.groups > 1 && inner < 64 && outer < 32
                                             ? planes_of(weight, g.out_channels, entries)
                                             : panels_of_groups(weight, g.groups, outer, entries);
    const Fused plain = {{NEVER, 8, 1.0f, 0, nullptr, nullptr}, 0, nullptr, nullptr};
    std::vector<float> y(static_cast<size_t>(g.batch * out_pixels * g.out_channels));
    if (px_binary_conv2d(isa, x.data(), nullptr, nullptr, &g, panels.data(), &plain, nullptr, nullptr, y.data(),
                         threads) != 0) {
        return false;
    }
    for (int64_t n = 0; n < g.batch; ++n) {
        const int* const image = signs.data() + n * g.image_stride;
        for (int64_t p = 0; p < out_pixels; ++p) {
            for (int64_t o = 0; o < g.out_channels; ++o) {
                const float expected = static_cast<float>(convolved(g, image, weight.data(), p, o));
                const int64_t at = g.has_planes ? o * out_pixels + p : p * g.out_channels + o;
                if (y[static_cast<size_t>(n * out_pixels * g.out_channels + at)] != expected) return false;
            }
        }
    }
    return true;
}

bool nan_stays(int32_t isa) {
    for (int64_t entries : {1, 64, 65, 200}) {
        std::vector<float> x(static_cast<size_t>(entries), 1.0f), y(2);
        x.back() = NAN;
        const std::vector<uint64_t> panels(static_cast<size_t>((entries + 63) / 64 * 8));
        const Fused plain = {{NEVER, 8, 1.0f, 0, nullptr, nullptr}, 0, nullptr, nullptr};
        px_binary_linear(isa, x.data(), nullptr, nullptr, 1, entries, entries, panels.data(), 2, &plain, nullptr,
                         nullptr, y.data(), 1);
        if (!std::isnan(y[0]) || !std::isnan(y[1])) return false;
    }
    return true;
}

double curve_of(int32_t curve, double x, double mu) {
    const double u = mu * x, one = x < 0 ? -1 : 1, h = std::tanh(u / 2);
    switch (curve) {
        case CLIP: return std::fabs(u) < 1 ? u : one;
        case POLYNOMIAL: return std::fabs(u) < 1 ? u * (2 - std::fabs(u)) : one;
        case TANH: return std::tanh(u);
        case ERROR_DECAY: return std::tanh(u) / std::fmin(mu, 1);
        case SIGN_SWISH: return h + u / 2 * (1 - h * h);
        case PROXCONNECT: return one * std::fmin(1, 1 - 1 / mu + std::fabs(x));
        case BINARYRELAX: return x / mu + (1 - 1 / mu) * one;
        default: return one;
    }
}

// Return the slope of a smooth curve from a difference.
double derivative_of(int32_t curve, double x, double mu) {
    const double h = 1e-6;
    return (curve_of(curve, x + h, mu) - curve_of(curve, x - h, mu)) / (2 * h);
}

// Compare latents at unaligned addresses with float64, including the tails of rows and curves that jump.
bool quantizes(int32_t isa, int32_t curve, int64_t rows, int64_t columns, int32_t threads) {
    std::mt19937 random(static_cast<unsigned>(curve + 31 * columns));
    std::normal_distribution<float> normal;
    const size_t n = static_cast<size_t>(rows * columns);
    std::vector<float> x(n + 1), y(n + 1), g(n + 1), product(n + 1), statistics(static_cast<size_t>(2 * rows));
    std::vector<uint8_t> inside(n);
    for (size_t i = 0; i <= n; ++i) x[i] = 0.3f * normal(random), g[i] = normal(random);
    const double mu = 2;
    const bool has_slope = curve != SIGN && curve < PROXCONNECT;
    if (px_quantize(isa, 0, curve, 0, 2, rows * columns, columns, x.data() + 1, y.data() + 1, statistics.data(),
                    inside.data(), threads) != 0 ||
        px_quantize_backward(isa, 0, has_slope ? curve : SIGN, 2, rows * columns, columns, x.data() + 1, g.data() + 1,
                             statistics.data(), inside.data(), product.data() + 1, threads) != 0) {
        return false;
    }
    for (int64_t row = 0; row < rows; ++row) {
        const float* const w = x.data() + 1 + row * columns;
        double mean = 0, correlation = 0, energy = 0;
        for (int64_t k = 0; k < columns; ++k) mean += std::fabs(w[k]) / static_cast<double>(columns);
        for (int64_t k = 0; k < columns; ++k) {
            const double f = curve_of(curve, w[k] / mean, mu);
            correlation += w[k] * f, energy += f * f;
        }
        const double alpha = correlation / energy;
        for (int64_t k = 0; k < columns; ++k) {
            const size_t at = static_cast<size_t>(1 + row * columns + k);
            const double point = w[k] / mean, expected = alpha * curve_of(curve, point, mu);
            if (std::fabs(y[at] - expected) > 2e-6 * std::fabs(expected)) return false;
            const double edge = curve == CLIP || curve == POLYNOMIAL ? 1 / mu : curve == SIGN_SWISH ? 0 : 1;
            if (std::fabs(std::fabs(point) - edge) < 1e-4) continue;
            const double slope = has_slope ? derivative_of(curve, point, mu) : std::fabs(point) <= 1;
            if (std::fabs(product[at] - alpha / mean * slope * g[at]) > 1e-4 * std::fabs(g[at]) + 1e-6) return false;
        }
    }
    return true;
}

void check(bool is_right, int32_t isa, const char* what, int64_t first, int64_t second, int64_t third) {
    ++runs;
    if (is_right) return;
    ++failures;
    std::printf("isa %d: %s: %lld, %lld, %lld\n", isa, what, (long long)first, (long long)second, (long long)third);
}

void check_linear(int32_t isa) {
    const Output outputs[] = {
        {NEVER, 8, 1.0f, 0, nullptr, nullptr}, {WRAP, 8, 1.0f, 1, nullptr, nullptr},
        {SATURATE, 8, 1.0f, 2, nullptr, nullptr}, {WRAP, 3, 1.0f, 0, nullptr, nullptr},
    };
    for (int64_t m : {0, 1, 3, 4, 9}) {
        for (int64_t n : {1, 7, 8, 9, 33}) {
            for (int64_t entries : {1, 63, 64, 65, 127, 128, 129, 255, 256, 257, 1984, 1985, 2600}) {
                const Product product(m, n, entries);
                for (Output output : outputs) {
                    if (output.scales == 2) output.scales = n == 1 ? 1 : n;
                    for (int32_t threads : {1, 3}) {
                        check(agrees(isa, product, output, threads), isa, "m, n, entries", m, n, entries);
                    }
                }
            }
        }
    }
    for (int64_t entries : {32767, 32768, 32769}) {
        check(agrees(isa, Product(5, 40, entries), outputs[1], 2), isa, "m, n, entries", 5, 40, entries);
    }
    for (int64_t entries : {1, 64, 191, 192, 256}) {  // in one block, with enough rows and outputs for AVX2's tables
        check(agrees(isa, Product(21, 77, entries), outputs[0], 1), isa, "m, n, entries", 21, 77, entries);
    }
    check(nan_stays(isa), isa, "NaN", 0, 0, 0);
}

void check_convolutions(int32_t isa) {
    for (const int64_t channels : {1, 8, 63, 64, 65, 130}) {
        for (const int64_t groups : {1, 2, 70}) {
            if (groups == 70 && channels > 8) continue;
            const int64_t outer = groups == 70 ? 1 + channels % 2 : 9;
            for (const bool is_channels_last : {false, true}) {
                for (const int64_t step : {1, 2}) {
                    Geometry g = small_images(channels * groups, outer * groups, groups, step, is_channels_last);
                    g.has_planes = !is_channels_last;
                    for (g.border = -1; g.border <= 1; ++g.border) {
                        const bool is_right = convolves(isa, g, static_cast<int32_t>(1 + step));
                        check(is_right, isa, "channels of a group, groups, border", channels, groups, g.border);
                    }
                }
            }
        }
    }
}

// Sizes that fill whole tiles, and sizes at their edges.
void check_tiles(int32_t isa) {
    const Output output = {NEVER, 8, 1.0f, 0, nullptr, nullptr};
    for (const int64_t m : {48, 65, 130}) {
        for (const int64_t n : {1, 16, 90}) {
            for (const int64_t entries : {16, 64, 200}) {
                check(agrees(isa, Product(m, n, entries), output, 2), isa, "m, n, entries", m, n, entries);
            }
        }
    }
    check(agrees(isa, Product(70, 20, 17000), output, 1), isa, "m, n, entries", 70, 20, 17000);
    for (const int64_t channels : {16, 64, 80}) {
        for (const int64_t outputs : {15, 90}) {
            for (const int64_t step : {1, 2, 3}) {
                Geometry g = larger_images(channels, outputs, step, outputs != 15);
                g.has_planes = outputs == 15;
                g.border = static_cast<int32_t>((step + channels / 16 + g.has_planes) % 3) - 1;
                const bool is_right = convolves(isa, g, static_cast<int32_t>(step));
                check(is_right, isa, "channels, outputs, border of larger images", channels, outputs, g.border);
            }
        }
    }
}

void check_quantizer(int32_t isa) {
    for (int32_t curve = SIGN; curve <= BINARYRELAX; ++curve) {
        for (const int64_t columns : {2, 3, 4, 7, 8, 15, 16, 17, 63, 65, 1024, 1025, 2100}) {
            const int64_t rows = columns > 2000 ? 40 : 3;
            check(quantizes(isa, curve, rows, columns, 2), isa, "curve, rows, columns", curve, rows, columns);
        }
    }
}

void check_all(int32_t isa) {
    check_linear(isa);
    check_convolutions(isa);
    check_tiles(isa);
    failures += check_weight_only(isa, runs);
    failures += check_fused(isa, runs);
    failures += check_int8(isa, runs);
    failures += check_attention(isa, runs);
    failures += check_float_conv(isa, runs);
    check_quantizer(isa);
    failures += check_threads(isa, runs);
}

}  // namespace

int main(int count, char** arguments) {
    const std::vector<std::string> names(arguments + 1, arguments + count);
    for (int32_t isa = PORTABLE; isa <= AVX512_VNNI; ++isa) {
        const char* const name = NAMES[isa];
        if (!names.empty() && std::find(names.begin(), names.end(), name) == names.end()) continue;
        if (px_supports(isa)) check_all(isa);
        std::printf(px_supports(isa) ? "checked: %s\n" : "skipped: %s, which this machine lacks\n", name);
    }
    failures += check_parts(runs);
    std::printf("%d runs, %d failures\n", runs, failures);
    return failures != 0;
}
