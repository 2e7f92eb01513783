// Binary convolutions.
#include "fuzz/epilogues.hpp"
#include "fuzz/geometries.hpp"
#include "fuzz/sign_weights.hpp"

namespace fuzz {
namespace {

constexpr int64_t PRODUCTS = 60000;

// Draw the weight in panels, or, for few channels of many groups, as bits of all outputs, entry by entry.
struct Weight {
    SignWeight in_panels;
    Guarded<uint64_t> thin;
    bool is_thin;

    static Weight drawn(Draws& draws, const Geometry& g) {
        const int64_t inner = g.channels / g.groups, outer = g.out_channels / g.groups, n = g.out_channels;
        const bool is_thin = g.groups > 1 && inner < 64 && outer < 32;
        const int64_t entries = inner * taps_of(g);
        Weight weight = {SignWeight(draws, g.groups, outer, entries),
                         Guarded<uint64_t>(is_thin ? entries * words_of(n) : 0, draws.coin()), is_thin};
        std::fill(weight.thin.begin(), weight.thin.end(), 0);
        for (int64_t i = 0; is_thin && i < n * entries; ++i) {
            const int64_t channel = i / entries, k = i % entries;
            const uint64_t bit = weight.in_panels.row(channel)[k] > 0;
            weight.thin[k * words_of(n) + channel / 64] |= bit << (channel % 64);
        }
        return weight;
    }

    const uint64_t* panels() const { return is_thin ? thin.data() : in_panels.panels(); }
};

// Return images as signs, 0 for NaN, channels last.
struct Signs8 {
    const Geometry& g;
    std::vector<int8_t> signs;

    Signs8(const Geometry& geometry, const std::vector<float>& x) : g(geometry) {
        for (size_t i = 0; i < x.size(); ++i) {
            const float* const shift = g.input_shift;
            const float v = shift == nullptr ? x[i] : x[i] + shift[static_cast<int64_t>(i) % g.channels];
            signs.push_back(std::isnan(v) ? 0 : v >= 0 ? 1 : -1);
        }
    }

    const int8_t* pixel(int64_t image, int64_t pixel) const {
        return signs.data() + (image * g.size[0] * g.size[1] + pixel) * g.channels;
    }

    bool has_nan(int64_t image, int64_t at) const {
        return std::count(pixel(image, at), pixel(image, at) + g.channels, 0) > 0;
    }

    // Return the sum of an output, and whether it reads NaN, in whole pixels or only in its group.
    int64_t sum(const Weight& weight, int64_t image, int64_t out_pixel, int64_t channel, bool by_pixel,
                bool& nan) const {
        const int64_t inner = g.channels / g.groups, first = channel / (g.out_channels / g.groups) * inner;
        const int8_t* row = weight.in_panels.row(channel);
        int64_t total = 0;
        for (int64_t tap = 0; tap < taps_of(g); ++tap, row += inner) {
            const int64_t met = pixel_met(g, out_pixel, tap);
            const int8_t* const seen = met < 0 ? nullptr : pixel(image, met) + first;
            for (int64_t c = 0; c < inner; ++c) {
                total += row[c] * (met < 0 ? g.border : seen[c] > 0 ? 1 : -1);
                nan |= met >= 0 && seen[c] == 0;
            }
            nan |= by_pixel && met >= 0 && has_nan(image, met);
        }
        return total;
    }
};

void draw_shift(Draws& draws, Geometry& g, const Guarded<float>& shift) {
    if (draws.below(4) == 0) g.input_shift = shift.data();
}

// Images of words, with the strides of `g`, and their NaN pixels.
struct Words {
    Guarded<uint64_t> words;
    Guarded<uint8_t> nan;

    static Words of(Draws& draws, const Signs8& signs, Geometry& g) {
        const int64_t pixels = g.batch * g.size[0] * g.size[1], width = words_of(g.channels);
        Words made = {Guarded<uint64_t>(pixels * width, draws.coin()), Guarded<uint8_t>(pixels, draws.coin())};
        std::fill(made.words.begin(), made.words.end(), 0);
        for (int64_t i = 0; i < pixels * g.channels; ++i) {
            const uint64_t bit = signs.signs[static_cast<size_t>(i)] > 0;
            made.words[i / g.channels * width + i % g.channels / 64] |= bit << (i % g.channels % 64);
        }
        for (int64_t i = 0; i < pixels; ++i) made.nan[i] = signs.has_nan(0, i);
        g.channel_stride = 1, g.pixel_stride = width, g.row_stride = g.size[1] * width;
        g.image_stride = g.size[0] * g.row_stride;
        return made;
    }
};

// The expected sum of each output, and whether it is NaN.
struct Sums {
    std::vector<int64_t> sums;
    std::vector<uint8_t> nan, nan_pixels;

    Sums(const Signs8& signs, const Weight& weight, bool by_pixel, bool has_nan) {
        const Geometry& g = signs.g;
        const int64_t pixels = out_pixels(g), n = g.out_channels;
        nan_pixels.resize(static_cast<size_t>(g.batch * pixels));
        for (int64_t i = 0; i < g.batch * pixels * n; ++i) {
            bool is_nan = false;
            sums.push_back(signs.sum(weight, i / (pixels * n), i / n % pixels, i % n, by_pixel, is_nan));
            nan.push_back(is_nan && has_nan);
            nan_pixels[static_cast<size_t>(i / n)] |= nan.back();
        }
    }
};

void check_words(const Sums& sums, const Geometry& g, const Output& output, const Intervals& intervals,
                 const Guarded<uint64_t>& words) {
    for (int64_t i = 0; i < words.size() * 64; ++i) {
        const int64_t width = words_of(g.out_channels), pixel = i / 64 / width, c = i % (width * 64);
        if (sums.nan_pixels[static_cast<size_t>(pixel)] != 0) continue;
        const bool is_beyond = c >= g.out_channels;
        const int64_t sum = is_beyond ? 0 : sums.sums[static_cast<size_t>(pixel * g.out_channels + c)];
        const uint64_t expected = is_beyond ? 0 : intervals.bit(held_integer(sum, output), c);
        require(expected == (words[i / 64] >> (i % 64) & 1), "px_binary_conv2d: bit", i, expected == 1,
                expected == 0);
    }
}

void check_floats(const Sums& sums, const Geometry& g, const Epilogue& epilogue, const Guarded<float>& y) {
    for (int64_t i = 0; i < y.size(); ++i) {
        const size_t at = static_cast<size_t>(i);
        const float sum = held(sums.sums[at], epilogue.output);
        const float expected = sums.nan[at] != 0 ? NAN : epilogue.of(sum, i % g.out_channels, i);
        const float found = y[out_place(g, i)];
        require(same(expected, found), "px_binary_conv2d", i, expected, found);
    }
}

}  // namespace

void binary_conv2d(Draws& draws) {
    const Machine machine(draws);
    Geometry g = geometry(draws, true, Lies::AS_GEOMETRY_SAYS, PRODUCTS);
    g.border = static_cast<int32_t>(draws.within(-1, 1));
    const Guarded<float> shift = floats(draws, g.channels, draws.mood(), BEYOND);
    draw_shift(draws, g, shift);
    const Guarded<float> x = images(draws, g, draws.mood());
    const Weight weight = Weight::drawn(draws, g);
    const Signs8 signs(g, without_gaps(g, x));
    const bool takes_words = draws.coin(), has_nan = !takes_words || draws.coin();
    const bool makes_signs = draws.coin(), tells_nan = draws.coin();
    const Sums sums(signs, weight, takes_words, has_nan);
    Geometry of_words = g;
    const Words words = Words::of(draws, signs, of_words);
    of_words.input_shift = nullptr;
    const int64_t rows = g.batch * out_pixels(g);
    Epilogue epilogue(draws, rows, g.out_channels, true);
    epilogue.output = accumulator(draws);
    of_words.has_planes = g.has_planes = !makes_signs && epilogue.others() == nullptr && draws.coin();
    const Intervals intervals(draws, g.out_channels);
    const Signs of_sums = intervals.signs();
    Fused fused = epilogue.fused();
    if (makes_signs) fused.signs = &of_sums, fused.step_count = 0, fused.steps = nullptr;
    Guarded<float> y(makes_signs ? 0 : rows * g.out_channels, draws.coin());
    Guarded<uint64_t> bits(makes_signs ? rows * words_of(g.out_channels) : 0, draws.coin());
    Guarded<uint8_t> told(makes_signs && tells_nan ? rows : 0, draws.coin());
    void* const output = makes_signs ? static_cast<void*>(bits.data()) : y.data();
    const int32_t code = px_binary_conv2d(
        machine.isa, takes_words ? nullptr : x.data(), takes_words ? words.words.data() : nullptr,
        takes_words && has_nan ? words.nan.data() : nullptr, takes_words ? &of_words : &g, weight.panels(), &fused,
        epilogue.others(), told.size() > 0 ? told.data() : nullptr, output, machine.threads);
    const bool may_lose = makes_signs && !tells_nan && has_nan && std::count(signs.signs.begin(), signs.signs.end(), 0);
    const bool loses = may_lose && std::count(sums.nan_pixels.begin(), sums.nan_pixels.end(), 1) > 0;
    const bool is_right = machine.is_known() ? code == 2 * loses || (code == 2 && may_lose) : code == 1;
    require(is_right, "px_binary_conv2d: code", -1, 2 * loses, code);
    if (code == 1) require(is_untouched(y) && is_untouched(bits) && is_untouched(told), "px_binary_conv2d writes");
    if (code != 0) return;
    if (!makes_signs) return check_floats(sums, g, epilogue, y);
    check_words(sums, g, epilogue.output, intervals, bits);
    require(told.size() == 0 || told.is_still(sums.nan_pixels), "px_binary_conv2d: pixels of NaN");
}

}  // namespace fuzz
