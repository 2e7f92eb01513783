// Float convolutions, in fixed point with AMX, against sums of doubles, and depthwise ones against integers.
#include <cmath>
#include <cstdio>
#include <random>
#include <vector>

#include "proxconnect.h"
#include "tests/test_images.hpp"

namespace {

std::vector<float> normal(int64_t count, unsigned seed) {
    std::mt19937_64 random(seed);
    std::normal_distribution<float> normal;
    std::vector<float> values(static_cast<size_t>(count));
    for (float& value : values) value = normal(random);
    return values;
}

// A weight of integers below 2^23 - 2^15 in size, (outputs, pieces, length), and its panels of digits and of floats.
struct Weight {
    int64_t n, pieces, length, steps;
    std::vector<int32_t> numbers;
    std::vector<int8_t> panels;
    std::vector<float> float_panels;

    Weight(int64_t n, int64_t pieces, int64_t length)
        : n(n), pieces(pieces), length(length), steps(pieces * ((3 * length + 63) / 64)) {
        std::mt19937_64 random(static_cast<unsigned>(n + 31 * pieces + 977 * length));
        panels.resize(static_cast<size_t>((n + 15) / 16 * 4 * block()));
        float_panels.resize(static_cast<size_t>((n + 15) / 16 * 16 * pieces * length));
        for (int64_t i = 0; i < n * pieces * length; ++i) {
            numbers.push_back(static_cast<int32_t>(random() % 16711421) - 8355710);
            put(i);
        }
    }

    int64_t block() const { return steps * 1024 + 64; }

    // Put the digits of entry i, which meet those of a pixel in four places.
    void put(int64_t i) {
        const int32_t v = numbers[static_cast<size_t>(i)];
        const int32_t low = ((v + 128) & 255) - 128, rest = (v - low) / 256, middle = ((rest + 128) & 255) - 128;
        const int32_t high = (rest - middle) / 256;
        const int32_t places[4][3] = {{0, 0, high}, {0, high, middle}, {high, middle, low}, {middle, low, 0}};
        const int64_t output = i / (pieces * length), piece = i / length % pieces, k = i % length;
        const int64_t first = output / 16 * 16 * pieces * length, entry = i % (pieces * length);
        float_panels[static_cast<size_t>(first + entry * 16 + output % 16)] = static_cast<float>(v);
        for (int64_t place = 0; place < 4; ++place) {
            int8_t* const to = panels.data() + (output / 16 * 4 + place) * block();
            for (int64_t digit = 0; digit < 3; ++digit) {
                const int64_t at = 3 * k + digit, step = piece * (steps / pieces) + at / 64, four = at % 64 / 4;
                to[step * 1024 + four * 64 + output % 16 * 4 + at % 4] = static_cast<int8_t>(places[place][digit]);
            }
        }
    }
};

// Return true if a convolution through `max(·, 0)` is within the error of floats from sums of doubles. If it `pools`,
// compare the largest under 2 x 2.
bool convolves(int32_t isa, const Geometry& g, bool pools, int32_t threads) {
    const bool is_whole = g.dilation[1] == 1 || g.kernel[1] == 1;
    const int64_t n = g.out_channels, taps = g.kernel[0] * g.kernel[1], pixels = g.out_size[0] * g.out_size[1];
    const Weight weight(n, is_whole ? g.kernel[0] : taps, g.channels * (is_whole ? g.kernel[1] : 1));
    const std::vector<float> x = normal(g.batch * g.image_stride, 4);
    constexpr float STEP = 0x1p-22f;
    const bool has_digits = isa == AMX;
    const void* const panels = has_digits ? static_cast<const void*>(weight.panels.data()) : weight.float_panels.data();
    const std::vector<float> scale(static_cast<size_t>(n + 80), (has_digits ? 256 : 1) * STEP);
    const std::vector<float> bias(static_cast<size_t>(n + 80), 0.5f);
    const Step step = {CLAMP, 0, INFINITY, nullptr, nullptr};
    const Fused fused = {{NEVER, 8, 1, n + 80, scale.data(), bias.data()}, 1, &step, nullptr};
    Window pool = {};
    for (int i = 0; i < 2; ++i) {
        pool.size[i] = g.out_size[i], pool.kernel[i] = pool.stride[i] = pools ? 2 : 1;
        pool.out_size[i] = (pool.size[i] - pool.kernel[i]) / pool.stride[i] + 1;
    }
    const int64_t out_pixels = pool.out_size[0] * pool.out_size[1];
    std::vector<float> y(static_cast<size_t>(g.batch * out_pixels * n), NAN);
    if (px_float_conv2d(isa, x.data(), nullptr, &g, panels, &fused, nullptr, pools ? &pool : nullptr, y.data(),
                        threads)) {
        return false;
    }
    std::vector<double> sums(static_cast<size_t>(g.batch * pixels * n), 0.5);
    for (int64_t i = 0; i < g.batch * pixels * n; ++i) {
        const int64_t image = i / (pixels * n), pixel = i / n % pixels, channel = i % n;
        for (int64_t k = 0; k < taps * g.channels; ++k) {
            const int64_t met = pixel_met(g, pixel, k / g.channels), c = k % g.channels;
            if (met < 0) continue;
            const int64_t from = image * g.image_stride + c * g.channel_stride + met * g.pixel_stride;
            const int32_t number = weight.numbers[static_cast<size_t>(channel * taps * g.channels + k)];
            sums[static_cast<size_t>(i)] += static_cast<double>(x[static_cast<size_t>(from)]) * number * STEP;
        }
    }
    const double bound = 2e-7 * static_cast<double>(taps * g.channels) * 2 * 4;  // of entries up to 4, weights up to 2
    for (int64_t i = 0; i < g.batch * out_pixels * n; ++i) {
        const int64_t image = i / (out_pixels * n), at = i / n % out_pixels;
        const int64_t row = at / pool.out_size[1] * pool.stride[0], column = at % pool.out_size[1] * pool.stride[1];
        double most = 0;
        for (int64_t k = 0; k < pool.kernel[0] * pool.kernel[1]; ++k) {
            const int64_t pixel = (row + k / pool.kernel[1]) * g.out_size[1] + column + k % pool.kernel[1];
            most = std::fmax(most, sums[static_cast<size_t>((image * pixels + pixel) * n + i % n)]);
        }
        if (!(std::fabs(y[static_cast<size_t>(i)] - most) <= bound)) return false;
    }
    return true;
}

// Return true if a depthwise convolution of integers by signs, through `max(·, 0)`, is equal to sums of integers.
bool convolves_depthwise(int32_t isa, Geometry g, int32_t threads) {
    const int64_t n = g.groups = g.out_channels = g.channels, taps = g.kernel[0] * g.kernel[1];
    const int64_t width = (n + 15) / 16 * 16, pixels = g.out_size[0] * g.out_size[1];
    std::mt19937_64 random(static_cast<unsigned>(n));
    std::vector<float> x(static_cast<size_t>(g.batch * g.image_stride)), weight(static_cast<size_t>(taps * width));
    for (float& value : x) value = static_cast<float>(static_cast<int64_t>(random() % 511) - 255);
    for (float& value : weight) value = random() % 2 ? 1.0f : -1.0f;
    const std::vector<float> scale(static_cast<size_t>(n + 80), 0.5f), bias(static_cast<size_t>(n + 80), 3);
    const Step step = {CLAMP, 0, INFINITY, nullptr, nullptr};
    const Fused fused = {{NEVER, 8, 1, n + 80, scale.data(), bias.data()}, 1, &step, nullptr};
    std::vector<float> y(static_cast<size_t>(g.batch * pixels * n), NAN);
    if (px_float_conv2d(isa, x.data(), nullptr, &g, weight.data(), &fused, nullptr, nullptr, y.data(), threads)) {
        return false;
    }
    for (int64_t i = 0; i < g.batch * pixels * n; ++i) {
        const int64_t image = i / (pixels * n), pixel = i / n % pixels, c = i % n;
        float sum = 0;
        for (int64_t tap = 0; tap < taps; ++tap) {
            const int64_t met = pixel_met(g, pixel, tap);
            const int64_t from = image * g.image_stride + c * g.channel_stride + met * g.pixel_stride;
            if (met >= 0) sum += x[static_cast<size_t>(from)] * weight[static_cast<size_t>(tap * width + c)];
        }
        if (y[static_cast<size_t>(i)] != std::fmax(sum / 2 + 3, 0.0f)) return false;
    }
    return true;
}

int check_depthwise(int32_t isa, int& runs) {
    int failures = 0;
    for (const int64_t channels : {2, 16, 35, 300}) {
        for (const int64_t step : {1, 2, 3}) {
            for (const bool is_large : {false, true}) {
                ++runs;
                const Geometry g = is_large ? larger_images(channels, channels, step, step == 2)
                                            : small_images(channels, channels, 1, step, step == 2);
                if (convolves_depthwise(isa, g, static_cast<int32_t>(step))) continue;
                ++failures;
                std::printf("isa %d: depthwise convolution: %lld %lld %d\n", isa, (long long)channels, (long long)step,
                            is_large);
            }
        }
    }
    return failures;
}

}  // namespace

int check_float_conv(int32_t isa, int& runs) {
    int failures = check_depthwise(isa, runs);
    if (isa == PORTABLE || isa == NEON) return failures;
    for (const int64_t channels : {1, 3, 35}) {
        for (const int64_t outputs : {1, 9, 70}) {
            for (const int64_t step : {1, 2, 3}) {
                for (const int what : {0, 1, 2, 3}) {
                    ++runs;
                    const Geometry g = what & 2 ? larger_images(channels, outputs, step, what & 1)
                                                : small_images(channels, outputs, 1, step, what & 1);
                    if (convolves(isa, g, step == 1, static_cast<int32_t>(step))) continue;
                    ++failures;
                    std::printf("isa %d: float convolution: %lld %lld %lld, %d\n", isa, (long long)channels,
                                (long long)outputs, (long long)step, what);
                }
            }
        }
    }
    return failures;
}
