// Int8 products against sums of integers, one entry at a time.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <numeric>
#include <random>
#include <vector>

#include "int8/steps.hpp"
#include "proxconnect.h"
#include "tests/test_images.hpp"

namespace {

constexpr Fused PLAIN = {{NEVER, 8, 1.0f, 0, nullptr, nullptr}, 0, nullptr, nullptr};

// A weight (outputs, pieces, length) and its panels, which are 0 after the last entry and output.
struct Weight {
    int64_t n, pieces, length;
    std::vector<int> levels;
    std::vector<int8_t> panels;

    int64_t steps() const { return pieces * ((length + 63) / 64); }

    Weight(int64_t n, int64_t pieces, int64_t length) : n(n), pieces(pieces), length(length) {
        std::mt19937_64 random(static_cast<unsigned>(n + 31 * pieces + 977 * length));
        const int64_t block = steps() * 1024 + 64;
        panels.resize(static_cast<size_t>((n + 15) / 16 * block));
        for (int64_t output = 0; output < n; ++output) {
            int32_t total = 0;
            int8_t* const of_block = panels.data() + output / 16 * block;
            for (int64_t piece = 0; piece < pieces; ++piece) {
                for (int64_t k = 0; k < length; ++k) {
                    const int level = static_cast<int>(random() % 255) - 127;
                    const int64_t step = piece * ((length + 63) / 64) + k / 64, four = k % 64 / 4;
                    of_block[step * 1024 + four * 64 + output % 16 * 4 + k % 4] = static_cast<int8_t>(level);
                    levels.push_back(level), total += 128 * level;
                }
            }
            reinterpret_cast<int32_t*>(of_block + steps() * 1024)[output % 16] = total;
        }
    }

    const int* row(int64_t output) const { return levels.data() + output * pieces * length; }
};

std::vector<float> normal(int64_t count, unsigned seed) {
    std::mt19937_64 random(seed);
    std::normal_distribution<float> normal;
    std::vector<float> values(static_cast<size_t>(count));
    for (float& value : values) value = normal(random);
    return values;
}

float largest(const std::vector<float>& x, int64_t begin, int64_t count) {
    float most = 0x1p-100f;
    for (int64_t i = begin; i < begin + count; ++i) most = std::fmax(most, std::fabs(x[static_cast<size_t>(i)]));
    return most;
}

std::vector<int64_t> rounded(const std::vector<float>& x, int64_t begin, int64_t count, float most) {
    const float inverse = 127.0f / most;
    std::vector<int64_t> levels;
    for (int64_t i = begin; i < begin + count; ++i) {
        const float scaled = x[static_cast<size_t>(i)] * inverse;
        levels.push_back(static_cast<int64_t>(std::rint(scaled)));
    }
    return levels;
}

// Return true if the fused product equals the largest of 0 and the other product.
bool takes_a_step(int32_t isa, int64_t m, int64_t n, int64_t entries, const std::vector<float>& x, const Weight& weight,
                  const std::vector<float>& y, const std::vector<float>& scale, const std::vector<float>& bias,
                  int32_t threads) {
    std::vector<float> scales(static_cast<size_t>(n + 80)), biases(static_cast<size_t>(n + 80)), found(y.size(), NAN);
    for (int64_t i = 0; i < n + 80; ++i) {
        scales[static_cast<size_t>(i)] = scale[static_cast<size_t>(i % n)];
        biases[static_cast<size_t>(i)] = bias[static_cast<size_t>(i % n)];
    }
    const Step step = {CLAMP, 0, INFINITY, nullptr, nullptr};
    const Fused fused = {{NEVER, 8, 1, n + 80, scales.data(), biases.data()}, 1, &step, nullptr};
    px_int8_linear(isa, x.data(), m, entries, entries, weight.panels.data(), n, &fused, nullptr, found.data(), threads);
    for (size_t i = 0; i < y.size(); ++i) {
        if (found[i] != std::fmax(y[i], 0.0f)) return false;
    }
    return true;
}

bool multiplies(int32_t isa, int64_t m, int64_t n, int64_t entries, int32_t threads) {
    const Weight weight(n, 1, entries);
    const std::vector<float> x = normal(m * entries, 1), scale = normal(n, 2), bias = normal(n, 3);
    const Fused fused = {{NEVER, 8, 1, n, scale.data(), bias.data()}, 0, nullptr, nullptr};
    std::vector<float> y(static_cast<size_t>(m * n), NAN);
    if (px_int8_linear(isa, x.data(), m, entries, entries, weight.panels.data(), n, &fused, nullptr, y.data(),
                       threads)) {
        return false;
    }
    for (int64_t row = 0; row < m; ++row) {
        const float most = largest(x, row * entries, entries);
        const std::vector<int64_t> levels = rounded(x, row * entries, entries, most);
        for (int64_t output = 0; output < n; ++output) {
            const int64_t sum = std::inner_product(levels.begin(), levels.end(), weight.row(output), int64_t{0});
            const float product = static_cast<float>(sum) * (most / 127.0f);
            const float scaled = product * scale[static_cast<size_t>(output)];
            if (y[static_cast<size_t>(row * n + output)] != scaled + bias[static_cast<size_t>(output)]) return false;
        }
    }
    return takes_a_step(isa, m, n, entries, x, weight, y, scale, bias, threads);
}

// Return one sum of a convolution of an image of whole numbers.
int64_t convolved(const Geometry& g, const int64_t* image, const int* level, int64_t pixel) {
    int64_t sum = 0;
    for (int64_t tap = 0; tap < g.kernel[0] * g.kernel[1]; ++tap, level += g.channels) {
        const int64_t met = pixel_met(g, pixel, tap);
        if (met < 0) continue;
        for (int64_t c = 0; c < g.channels; ++c) {
            sum += image[c * g.channel_stride + met * g.pixel_stride] * level[c];
        }
    }
    return sum;
}

bool convolves(int32_t isa, const Geometry& g, int32_t threads) {
    const bool is_whole = g.dilation[1] == 1;
    const int64_t taps = g.kernel[0] * g.kernel[1], pixels = g.out_size[0] * g.out_size[1];
    const Weight weight(g.out_channels, is_whole ? g.kernel[0] : taps, g.channels * (is_whole ? g.kernel[1] : 1));
    const std::vector<float> x = normal(g.batch * g.image_stride, 4);
    const int64_t outputs = pixels * g.out_channels;
    std::vector<float> y(static_cast<size_t>(g.batch * outputs), NAN);
    if (px_int8_conv2d(isa, x.data(), nullptr, &g, weight.panels.data(), &PLAIN, nullptr, nullptr, y.data(), threads)) {
        return false;
    }
    for (int64_t image = 0; image < g.batch; ++image) {
        const float most = largest(x, image * g.image_stride, g.image_stride);
        const std::vector<int64_t> levels = rounded(x, image * g.image_stride, g.image_stride, most);
        for (int64_t at = 0; at < outputs; ++at) {
            const int64_t pixel = g.has_planes ? at % pixels : at / g.out_channels;
            const int64_t channel = g.has_planes ? at / pixels : at % g.out_channels;
            const int64_t sum = convolved(g, levels.data(), weight.row(channel), pixel);
            if (y[static_cast<size_t>(image * outputs + at)] != static_cast<float>(sum) * (most / 127.0f)) return false;
        }
    }
    return true;
}

// Return the window of a pool with `kernel` rows and columns, a stride and a padding.
Window window_of(const int64_t* size, int64_t kernel, int64_t stride, int64_t padding) {
    Window w = {};
    for (int i = 0; i < 2; ++i) {
        w.size[i] = size[i], w.kernel[i] = kernel, w.stride[i] = stride, w.padding[i] = padding;
        w.out_size[i] = (size[i] + 2 * padding - kernel) / stride + 1;
    }
    return w;
}

// Return image x of the geometry as means of 2 × 2, channels last.
std::vector<float> means_of(const Geometry& g, const Window& w, const std::vector<float>& x) {
    std::vector<float> means;
    for (int64_t i = 0; i < g.batch * w.out_size[0] * w.out_size[1] * g.channels; ++i) {
        const int64_t c = i % g.channels, pixel = i / g.channels, column = pixel % w.out_size[1];
        const int64_t row = pixel / w.out_size[1] % w.out_size[0], image = pixel / w.out_size[1] / w.out_size[0];
        float sum = 0;
        for (int64_t k = 0; k < 4; ++k) {
            const int64_t met = (2 * row + k / 2) * g.row_stride + (2 * column + k % 2) * g.pixel_stride;
            sum += x[static_cast<size_t>(image * g.image_stride + c * g.channel_stride + met)];
        }
        means.push_back(sum / 4);
    }
    return means;
}

// Apply an affine of a and a, a slope of a, and a pool to channels last.
std::vector<float> finished(const std::vector<float>& sums, int64_t batch, int64_t n, const Window& w,
                            const std::vector<float>& a) {
    std::vector<float> found;
    for (int64_t i = 0; i < batch * w.out_size[0] * w.out_size[1] * n; ++i) {
        const int64_t c = i % n, pixel = i / n, left = pixel % w.out_size[1] * w.stride[1] - w.padding[1];
        const int64_t row = pixel / w.out_size[1], top = row % w.out_size[0] * w.stride[0] - w.padding[0];
        float most = -INFINITY;
        for (int64_t y = top < 0 ? 0 : top; y < top + w.kernel[0] && y < w.size[0]; ++y) {
            for (int64_t z = left < 0 ? 0 : left; z < left + w.kernel[1] && z < w.size[1]; ++z) {
                const int64_t at = ((row / w.out_size[0] * w.size[0] + y) * w.size[1] + z) * n + c;
                const float of_channel = a[static_cast<size_t>(c)];
                const float v = std::fma(sums[static_cast<size_t>(at)], of_channel, of_channel);
                most = std::fmax(most, v > 0 ? v : of_channel * v);
            }
        }
        found.push_back(most);
    }
    return found;
}

// Compare the fused convolution with means, convolution, steps and pool one after the other.
bool convolves_fused(int32_t isa, const Geometry& of_x, bool takes_means, bool pools, int32_t threads) {
    const std::vector<float> x = normal(of_x.batch * of_x.image_stride, 6);
    Geometry g = of_x, plain = of_x;
    const Window mean = window_of(of_x.size, 2, 2, 0);
    std::vector<float> seen = x;
    if (takes_means) {
        seen = means_of(of_x, mean, x);
        for (int i = 0; i < 2; ++i) {
            g.size[i] = mean.out_size[i];
            g.out_size[i] = (g.size[i] + 2 * g.padding[i] - g.dilation[i] * (g.kernel[i] - 1) - 1) / g.stride[i] + 1;
        }
        plain = g;
        plain.channel_stride = 1, plain.pixel_stride = g.channels, plain.row_stride = g.channels * g.size[1];
        plain.image_stride = plain.row_stride * g.size[0];
    }
    const bool is_whole = g.dilation[1] == 1;
    const int64_t n = g.out_channels, taps = g.kernel[0] * g.kernel[1];
    const Weight weight(n, is_whole ? g.kernel[0] : taps, g.channels * (is_whole ? g.kernel[1] : 1));
    const std::vector<float> of_channels = normal(n + 80, 7);
    std::vector<float> a(static_cast<size_t>(n + 80)), zeros(static_cast<size_t>(n + 80));
    for (int64_t i = 0; i < n + 80; ++i) a[static_cast<size_t>(i)] = of_channels[static_cast<size_t>(i % n)];
    std::vector<float> sums(static_cast<size_t>(g.batch * g.out_size[0] * g.out_size[1] * n));
    const Output scaled = {NEVER, 8, 1, n + 80, a.data(), zeros.data()};
    const Fused without_steps = {scaled, 0, nullptr, nullptr};
    px_int8_conv2d(isa, seen.data(), nullptr, &plain, weight.panels.data(), &without_steps, nullptr, nullptr,
                   sums.data(), 1);
    const Window pool = window_of(g.out_size, pools ? 3 : 1, pools ? 2 : 1, pools ? 1 : 0);
    const std::vector<float> expected = finished(sums, g.batch, n, pool, a);
    const Step steps[] = {{AFFINE, 0, 0, a.data(), a.data()}, {SLOPE, 0, 0, a.data(), nullptr}};
    const Fused fused = {scaled, 2, steps, nullptr};
    std::vector<float> y(expected.size(), NAN);
    px_int8_conv2d(isa, x.data(), takes_means ? &mean : nullptr, &g, weight.panels.data(), &fused, nullptr,
                   pools ? &pool : nullptr, y.data(), threads);
    return y == expected;
}

// Compare sums of `add` with portable ones.
template <class Add>
bool adds(const Add& add, int64_t count, int64_t blocks, int64_t length) {
    using namespace proxconnect;
    std::vector<Stretch> steps;
    add_steps(0, length, steps);
    const int64_t step_count = static_cast<int64_t>(steps.size()), stride = step_count * STEP;
    std::mt19937_64 random(static_cast<unsigned>(count + 31 * blocks + 977 * length));
    std::vector<uint8_t> x(static_cast<size_t>((count + BLOCK) * stride));
    const Weight weight(blocks * BLOCK, 1, length);
    for (uint8_t& byte : x) byte = static_cast<uint8_t>(random() % 4 == 0 ? 255 : random());
    const ByteRows rows = {x.data(), count, stride, steps.data(), step_count, nullptr, 0};
    std::vector<int32_t> expected(static_cast<size_t>((count + BLOCK) * TILE)), found = expected;
    add_bytes(rows, weight.panels.data(), blocks, expected.data());
    add(rows, weight.panels.data(), blocks, found.data());
    return std::equal(expected.begin(), expected.begin() + count * TILE, found.begin());
}

// The same for the kernels' form. Of AVX2's two, its kernels take the one that this processor prefers.
bool all_forms_add(int32_t isa, int64_t count, int64_t blocks, int64_t length) {
#if defined(__x86_64__)
    if (isa == AVX2 && !adds(proxconnect::add_pairs, count, blocks, length)) return false;
#endif
    return adds(proxconnect::kernels_of(isa)->int8->add, count, blocks, length);
}

bool nan_stays_in_its_row(int32_t isa) {
    for (const float what : {NAN, INFINITY, -INFINITY}) {
        const Weight weight(9, 1, 70);
        std::vector<float> x = normal(40 * 70, 5), y(40 * 9);
        x[7 * 70 + 66] = what;
        px_int8_linear(isa, x.data(), 40, 70, 70, weight.panels.data(), 9, &PLAIN, nullptr, y.data(), 1);
        for (int64_t i = 0; i < 40 * 9; ++i) {
            if (std::isnan(y[static_cast<size_t>(i)]) != (i / 9 == 7)) return false;
        }
    }
    return true;
}

}  // namespace

int check_int8(int32_t isa, int& runs) {
    int failures = 0;
    const auto check = [&](bool is_right, const char* what, int64_t m, int64_t n, int64_t entries) {
        ++runs;
        if (is_right) return;
        ++failures;
        std::printf("isa %d: %s: %lld %lld %lld\n", isa, what, (long long)m, (long long)n, (long long)entries);
    };
    for (const int64_t m : {0, 1, 2, 7, 9, 17, 35}) {
        for (const int64_t n : {1, 16, 65}) {
            for (const int64_t entries : {1, 5, 63, 64, 65, 129}) {
                check(multiplies(isa, m, n, entries, 1 + m % 2), "8-bit weight", m, n, entries);
            }
        }
    }
    check(multiplies(isa, 197, 200, 300, 3), "threads of an 8-bit weight", 197, 200, 300);
    check(multiplies(isa, 3, 1100, 1000, 3), "threads of an 8-bit weight", 3, 1100, 1000);
    for (const int64_t channels : {1, 3, 35}) {
        for (const int64_t outputs : {1, 9, 70}) {
            for (const int64_t step : {1, 2}) {
                for (const bool is_channels_last : {false, true}) {
                    Geometry g = small_images(channels, outputs, 1, step, is_channels_last);
                    g.has_planes = !is_channels_last;
                    check(convolves(isa, g, static_cast<int32_t>(step)), "8-bit convolution", channels, outputs, step);
                    g.has_planes = 0;
                    for (const int what : {0, 1, 2, 3}) {
                        const bool is_right = convolves_fused(isa, g, what & 1, what & 2, static_cast<int32_t>(step));
                        check(is_right, "fused 8-bit convolution", channels, outputs, step);
                    }
                }
            }
        }
    }
    for (const int64_t count : {1, 2, 3, 4, 5, 6, 13, 50}) {
        const int64_t blocks = 1 + count % 4;
        check(all_forms_add(isa, count, blocks, 70), "sums of bytes", count, blocks, 70);
    }
    check(nan_stays_in_its_row(isa), "NaN of an 8-bit weight", 40, 9, 70);
    return failures;
}
