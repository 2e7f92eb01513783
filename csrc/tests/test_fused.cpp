// Epilogues, one output at a time, on sums of the kernels that tests/test_kernels.cpp checks.
#include <cmath>
#include <cstdio>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "proxconnect.h"
#include "tests/test_images.hpp"

namespace {

constexpr int64_t BEYOND = 80;

int64_t words_of(int64_t channels) { return (channels + 63) / 64; }

// One for each channel and 80 more.
template <class Value, class Draw>
std::vector<Value> by_channel(int64_t channels, const Draw& draw) {
    std::vector<Value> values(static_cast<size_t>(channels + BEYOND));
    const size_t count = static_cast<size_t>(channels);
    for (size_t i = 0; i < values.size(); ++i) values[i] = i < count ? static_cast<Value>(draw()) : values[i - count];
    return values;
}

// A random weight, and an epilogue.
struct Layer {
    std::mt19937_64 random;
    std::vector<float> scale, bias, a, b;
    static constexpr int64_t INTERVALS = 2;

    std::vector<int32_t> low;
    std::vector<uint32_t> width;
    std::vector<uint64_t> panels;

    Layer(int64_t channels, int64_t words) : random(static_cast<unsigned>(channels + 31 * words)) {
        std::normal_distribution<float> normal;
        const auto draw = [&] { return normal(random); };
        scale = by_channel<float>(channels, draw), bias = by_channel<float>(channels, draw);
        a = by_channel<float>(channels, draw), b = by_channel<float>(channels, draw);
        for (int64_t k = 0; k < INTERVALS; ++k) {
            const auto lows = by_channel<int32_t>(channels, [&] { return static_cast<int32_t>(random() % 40) - 20; });
            const auto widths = by_channel<uint32_t>(channels, [&] { return random() % 2 == 0 ? 5 : 1u << 31; });
            low.insert(low.end(), lows.begin(), lows.end());
            width.insert(width.end(), widths.begin(), widths.end());
        }
        panels.resize(static_cast<size_t>(words));
        for (uint64_t& word : panels) word = random();
    }

    Output output() const { return {NEVER, 8, 1.0f, static_cast<int64_t>(scale.size()), scale.data(), bias.data()}; }

    std::vector<Step> steps() const {
        return {{AFFINE, 0, 0, a.data(), b.data()}, {ADD, 0, 0, nullptr, nullptr}, {SLOPE, 0, 0, b.data(), nullptr},
                {CLAMP, -0.5f, 2.0f, nullptr, nullptr}};
    }

    float stepped(float sum, float other, size_t c) const {
        float v = std::fma(sum * scale[c] + bias[c], a[c], b[c]) + other;
        v = v > 0 ? v : b[c] * v;
        return v < -0.5f ? -0.5f : v > 2.0f ? 2.0f : v;
    }

    uint64_t bit(float sum, size_t c) const {
        uint64_t odd = 0;
        for (size_t at = c; at < low.size(); at += low.size() / INTERVALS) {
            odd ^= static_cast<uint32_t>(static_cast<int64_t>(sum) - low[at]) < width[at];
        }
        return odd;
    }
};

struct Found {
    std::vector<float> floats;
    std::vector<uint64_t> words;
    std::vector<uint8_t> nan;
};

// Return true if the outputs of `rows` rows match the sums, rows of `channels`. NaN marks rows of NaN.
bool agrees(const Layer& layer, const std::vector<float>& sums, const std::vector<float>& other, const Found& found,
            int64_t rows, int64_t channels) {
    for (int64_t r = 0; r < rows; ++r) {
        bool has_nan = false;
        for (int64_t c = 0; c < channels; ++c) has_nan |= std::isnan(sums[static_cast<size_t>(r * channels + c)]);
        if (found.nan[static_cast<size_t>(r)] != has_nan) return false;
        for (int64_t c = 0; c < words_of(channels) * 64; ++c) {
            const size_t at = static_cast<size_t>(r * channels + c);
            const uint64_t bit = found.words[static_cast<size_t>(r * words_of(channels) + c / 64)] >> (c % 64) & 1;
            if (c >= channels) {
                if (bit != 0) return false;
                continue;
            }
            if (std::isnan(sums[at])) {
                if (!std::isnan(found.floats[at])) return false;
                continue;
            }
            if (found.floats[at] != layer.stepped(sums[at], other[at], static_cast<size_t>(c))) return false;
            if (!has_nan && bit != layer.bit(sums[at], static_cast<size_t>(c))) return false;
        }
    }
    return true;
}

// Run call(fused, others, output, nan) for floats and for words.
template <class Call>
Found found_by(const Layer& layer, const std::vector<float>& other, int64_t rows, int64_t channels, const Call& call) {
    Found found = {std::vector<float>(other.size()), {}, std::vector<uint8_t>(static_cast<size_t>(rows), 7)};
    found.words.assign(static_cast<size_t>(rows * words_of(channels)), ~uint64_t{0});
    const std::vector<Step> steps = layer.steps();
    const float* const others[] = {other.data()};
    const Fused stepped = {layer.output(), static_cast<int64_t>(steps.size()), steps.data(), nullptr};
    call(stepped, others, found.floats.data(), nullptr);
    const Signs signs = {Layer::INTERVALS, layer.low.data(), layer.width.data()};
    const Fused signed_ = {layer.output(), 0, nullptr, &signs};
    call(signed_, nullptr, found.words.data(), found.nan.data());
    return found;
}

// Pack floats that are not adjacent to words. at(row, channel) returns their place.
template <class At>
std::vector<uint64_t> words_from(const std::vector<float>& x, int64_t rows, int64_t channels, const At& at,
                                 std::vector<uint8_t>& nan) {
    std::vector<uint64_t> words(static_cast<size_t>(rows * words_of(channels)));
    nan.assign(static_cast<size_t>(rows), 0);
    for (int64_t r = 0; r < rows; ++r) {
        for (int64_t c = 0; c < channels; ++c) {
            const float v = x[static_cast<size_t>(at(r, c))];
            words[static_cast<size_t>(r * words_of(channels) + c / 64)] |= static_cast<uint64_t>(v >= 0) << (c % 64);
            if (std::isnan(v)) nan[static_cast<size_t>(r)] = 1;
        }
    }
    return words;
}

std::vector<float> drawn(int64_t count, bool has_nan) {
    std::mt19937 random(static_cast<unsigned>(count));
    std::normal_distribution<float> normal;
    std::vector<float> values(static_cast<size_t>(count));
    for (float& value : values) value = normal(random);
    if (has_nan && count > 0) values[static_cast<size_t>(count / 2)] = NAN;
    return values;
}

// Words are NaN in all groups at once, so only one group may have NaN. With a shift, floats are shifted, and the words
// to compare are made from the result.
bool convolves(int32_t isa, Geometry g, bool has_nan, bool is_shifted, int32_t threads) {
    const int64_t inner = g.channels / g.groups, outer = g.out_channels / g.groups, taps = g.kernel[0] * g.kernel[1];
    const int64_t in_pixels = g.size[0] * g.size[1], rows = g.batch * g.out_size[0] * g.out_size[1];
    const bool is_thin = g.groups > 1 && inner < 64 && outer < 32;
    const Layer layer(g.out_channels, is_thin ? taps * inner * words_of(g.out_channels)
                                              : g.groups * ((outer + 7) / 8) * words_of(taps * inner) * 8);
    const std::vector<float> x = drawn(g.batch * g.image_stride, has_nan), other = drawn(rows * g.out_channels, false);
    std::vector<float> shift = drawn(g.channels + 80, false), sums(other.size());
    const size_t channels = static_cast<size_t>(g.channels);
    for (size_t i = 0; i < 80; ++i) shift[channels + i] = shift[i % channels];
    g.input_shift = is_shifted ? shift.data() : nullptr;
    const Fused plain = {{NEVER, 8, 1.0f, 0, nullptr, nullptr}, 0, nullptr, nullptr};
    const auto by_floats = [&](const Fused& f, const float* const* others, void* to, uint8_t* lost) {
        px_binary_conv2d(isa, x.data(), nullptr, nullptr, &g, layer.panels.data(), &f, others, lost, to, threads);
    };
    by_floats(plain, nullptr, sums.data(), nullptr);
    const Found of_floats = found_by(layer, other, rows, g.out_channels, by_floats);
    if (!agrees(layer, sums, other, of_floats, rows, g.out_channels)) return false;
    std::vector<uint8_t> nan;
    const auto at = [&](int64_t r, int64_t c) {
        return r / in_pixels * g.image_stride + c * g.channel_stride + r % in_pixels * g.pixel_stride;
    };
    std::vector<float> shifted = x;
    for (int64_t i = 0; is_shifted && i < g.batch * in_pixels * g.channels; ++i) {
        shifted[static_cast<size_t>(at(i / g.channels, i % g.channels))] += shift[static_cast<size_t>(i % g.channels)];
    }
    const std::vector<uint64_t> words = words_from(shifted, g.batch * in_pixels, g.channels, at, nan);
    Geometry of = g;
    of.channel_stride = 1, of.pixel_stride = words_of(g.channels), of.row_stride = g.size[1] * of.pixel_stride;
    of.image_stride = g.size[0] * of.row_stride;
    const auto by_words = [&](const Fused& f, const float* const* others, void* to, uint8_t* lost) {
        const uint64_t* const panels = layer.panels.data();
        px_binary_conv2d(isa, nullptr, words.data(), nan.data(), &of, panels, &f, others, lost, to, threads);
    };
    const Found of_words = found_by(layer, other, rows, g.out_channels, by_words);
    return (has_nan && g.groups > 1) || agrees(layer, sums, other, of_words, rows, g.out_channels);
}

bool multiplies(int32_t isa, int64_t m, int64_t n, int64_t entries, bool has_nan, int32_t threads) {
    const Layer layer(n, (n + 7) / 8 * words_of(entries) * 8);
    const std::vector<float> x = drawn(m * entries, has_nan), other = drawn(m * n, false);
    std::vector<float> sums(other.size());
    const Fused plain = {{NEVER, 8, 1.0f, 0, nullptr, nullptr}, 0, nullptr, nullptr};
    px_binary_linear(isa, x.data(), nullptr, nullptr, m, entries, entries, layer.panels.data(), n, &plain, nullptr,
                     nullptr, sums.data(), threads);
    std::vector<uint8_t> nan;
    const auto at = [&](int64_t r, int64_t c) { return r * entries + c; };
    const std::vector<uint64_t> words = words_from(x, m, entries, at, nan);
    for (const bool is_packed : {false, true}) {
        const Signed from = {is_packed ? nullptr : x.data(), is_packed ? words.data() : nullptr,
                             is_packed ? nan.data() : nullptr};
        const auto call = [&](const Fused& f, const float* const* others, void* to, uint8_t* lost) {
            px_binary_linear(isa, from.x, from.words, from.nan, m, entries, entries, layer.panels.data(), n, &f, others,
                             lost, to, threads);
        };
        const Found found = found_by(layer, other, m, n, call);
        if (!agrees(layer, sums, other, found, m, n)) return false;
    }
    return true;
}

// inf is not NaN, but inf with a shift of -inf is.
bool nan_of_a_shift_stays(int32_t isa) {
    Geometry g = small_images(8, 9, 1, 1, true);
    const std::vector<float> shift(8 + BEYOND, -INFINITY);
    g.border = 1, g.input_shift = shift.data();
    std::vector<float> x(static_cast<size_t>(g.batch * g.image_stride), 1.0f);
    x[0] = INFINITY;
    const std::vector<uint64_t> panels(2 * 8);
    const Fused plain = {{NEVER, 8, 1.0f, 0, nullptr, nullptr}, 0, nullptr, nullptr};
    const int64_t pixels = g.out_size[0] * g.out_size[1];
    std::vector<float> y(static_cast<size_t>(g.batch * pixels * 9));
    px_binary_conv2d(isa, x.data(), nullptr, nullptr, &g, panels.data(), &plain, nullptr, nullptr, y.data(), 1);
    for (int64_t i = 0; i < g.batch * pixels * 9; ++i) {
        bool meets = false;
        for (int64_t tap = 0; tap < 6; ++tap) meets |= i < pixels * 9 && pixel_met(g, i / 9 % pixels, tap) == 0;
        if (std::isnan(y[static_cast<size_t>(i)]) != meets) return false;
    }
    return true;
}

// In place.
bool finishes(int32_t isa, int64_t m, int64_t channels, int32_t threads) {
    const Layer layer(channels, 0);
    std::vector<float> x = drawn(m * channels, false);
    const std::vector<float> before = x, other = drawn(m * channels, false);
    const std::vector<Step> steps = layer.steps();
    const float* const others[] = {other.data()};
    const Fused fused = {layer.output(), static_cast<int64_t>(steps.size()), steps.data(), nullptr};
    px_finish(isa, x.data(), m, channels, &fused, others, x.data(), threads);
    Layer plain = layer;
    plain.scale.assign(plain.scale.size(), 1.0f), plain.bias.assign(plain.bias.size(), 0.0f);
    for (size_t i = 0; i < x.size(); ++i) {
        if (x[i] != plain.stepped(before[i], other[i], i % static_cast<size_t>(channels))) return false;
    }
    return true;
}

}  // namespace

int check_fused(int32_t isa, int& runs) {
    int failures = 0;
    const auto check = [&](bool is_right, const char* what, int64_t first, int64_t second, int64_t third) {
        ++runs;
        if (is_right) return;
        ++failures;
        std::printf("isa %d: fused %s: %lld, %lld, %lld\n", isa, what, (long long)first, (long long)second,
                    (long long)third);
    };
    for (const int64_t m : {0, 1, 5, 9}) {
        for (const int64_t n : {1, 8, 65, 150}) {
            for (const int64_t entries : {1, 64, 130}) {
                check(multiplies(isa, m, n, entries, m == 9, static_cast<int32_t>(1 + m % 2)), "linear", m, n, entries);
            }
        }
        for (const int64_t n : {1, 3, 64, 100}) check(finishes(isa, m * 50, n, 2), "steps", m, n, 0);
    }
    check(multiplies(isa, 65, 600, 700, false, 3), "threads", 65, 600, 700);
    for (const int64_t n : {16, 70, 130}) check(multiplies(isa, 131, n, 200, true, 2), "tiles", 131, n, 200);
    check(nan_of_a_shift_stays(isa), "NaN of a shift", 8, 9, 1);
    for (const int64_t channels : {16, 64, 200}) {
        for (const int64_t step : {1, 2, 3}) {
            Geometry g = larger_images(channels, 40 + 30 * step, step, step != 2);
            for (g.border = -1; g.border <= 1; ++g.border) {
                check(convolves(isa, g, g.border >= 0, g.border == 0, 2), "larger images", channels, step, g.border);
            }
        }
    }
    for (const int64_t channels : {1, 8, 64, 130}) {
        for (const int64_t groups : {1, 2, 70}) {
            if (groups == 70 && channels > 8) continue;
            for (const int64_t step : {1, 2}) {
                Geometry g = small_images(channels * groups, groups == 70 ? 70 : 41 * groups, groups, step, step == 1);
                for (g.border = -1; g.border <= 1; ++g.border) {
                    const bool is_shifted = (groups + step + g.border) % 2 == 0;  // each border with and without
                    const int32_t threads = static_cast<int32_t>(1 + step);
                    const bool is_right = convolves(isa, g, g.border == 1, is_shifted, threads);
                    check(is_right, "channels of a group, groups, border", channels, groups, g.border);
                }
            }
        }
    }
    return failures;
}
