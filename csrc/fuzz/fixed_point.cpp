// Float convolutions in fixed point.
#include "fuzz/epilogues.hpp"
#include "fuzz/geometries.hpp"

namespace fuzz {
namespace {

// Whole numbers of (outputs, pieces, length) within ±8355711, and their digits in panels.
class Numbers {
  public:
    Numbers(Draws& draws, const Geometry& g)
        : length_(g.channels * (is_whole(g) ? g.kernel[1] : 1)), entries_(taps_of(g) * g.channels),
          steps_((3 * length_ + 63) / 64), block_(entries_ / length_ * steps_ * 1024 + 64),
          numbers_(static_cast<size_t>(g.out_channels * entries_)),
          panels_((g.out_channels + 15) / 16 * 4 * block_, draws.coin()) {
        std::fill(panels_.begin(), panels_.end(), 0);
        for (size_t i = 0; i < numbers_.size(); ++i) {
            numbers_[i] = static_cast<int32_t>(draws.random() % 16711423) - 8355711;
            put(static_cast<int64_t>(i));
        }
    }

    const int8_t* panels() const { return panels_.data(); }
    double number(int64_t output, int64_t k) const { return numbers_[static_cast<size_t>(output * entries_ + k)]; }

  private:
    static bool is_whole(const Geometry& g) { return g.dilation[1] == 1 || g.kernel[1] == 1; }

    void put(int64_t i) {
        const int32_t v = numbers_[static_cast<size_t>(i)];
        const int32_t low = ((v + 128) & 255) - 128, rest = (v - low) / 256, middle = ((rest + 128) & 255) - 128;
        const int32_t high = (rest - middle) / 256;
        const int32_t places[4][3] = {{0, 0, high}, {0, high, middle}, {high, middle, low}, {middle, low, 0}};
        const int64_t output = i / entries_, piece = i % entries_ / length_, k = i % length_;
        for (int64_t j = 0; j < 12; ++j) {
            const int64_t at = 3 * k + j % 3, step = piece * steps_ + at / 64;
            int8_t* const block = panels_.data() + (output / 16 * 4 + j / 3) * block_;
            int8_t* const four = block + step * 1024 + at % 64 / 4 * 64 + output % 16 * 4;
            four[at % 4] = static_cast<int8_t>(places[j / 3][j % 3]);
        }
    }

    int64_t length_, entries_, steps_, block_;
    std::vector<int32_t> numbers_;
    Guarded<int8_t> panels_;
};

enum class Takes { YES, NO, PERHAPS };

// Predict whether all images, of `entries` entries each, are taken. Near the bounds the rounding of sums may decide.
Takes takes(const std::vector<float>& x, int64_t entries) {
    Takes all = Takes::YES;
    for (auto image = x.begin(); image != x.end(); image += entries) {
        double most = 0, sum = 0;
        for (auto v = image; v != image + entries; ++v) {
            if (!std::isfinite(*v)) return Takes::NO;
            most = std::fmax(most, std::fabs(*v)), sum += std::fabs(*v);
        }
        if (most == 0) continue;
        const double ratio = most * static_cast<double>(entries) / sum;
        if (most < 0x1p-60 || most > 0x1p60 || ratio > 256 * 1.0001) return Takes::NO;
        if (ratio > 256 * 0.9999) all = Takes::PERHAPS;
    }
    return all;
}

// The bounds of outputs. The step of an image rounds its floats, and products of both lowest digits are left out.
struct Bounds {
    const Geometry& g;
    const Epilogue& epilogue;
    const Numbers& numbers;
    std::vector<float> low, high;

    Bounds(const Geometry& geometry, const Epilogue& then, const Numbers& weight, const std::vector<float>& x)
        : g(geometry), epilogue(then), numbers(weight) {
        const int64_t entries = g.size[0] * g.size[1] * g.channels, outputs = out_pixels(g) * g.out_channels;
        for (int64_t image = 0; image < g.batch; ++image) {
            const float* const first = x.data() + image * entries;
            float most = 0;
            for (int64_t i = 0; i < entries; ++i) most = std::fmax(most, std::fabs(first[i]));
            for (int64_t i = 0; i < outputs; ++i) add(first, most / 8355710, i, image * outputs + i);
        }
    }

  private:
    void add(const float* image, double step, int64_t i, int64_t at) {
        const int64_t entries = taps_of(g) * g.channels, c = i % g.out_channels;
        double sum = 0, size = 0, weights = 0;
        for (int64_t k = 0; k < entries; ++k) {
            const int64_t met = pixel_met(g, i / g.out_channels, k / g.channels);
            if (met < 0) continue;
            const double v = image[met * g.channels + k % g.channels], w = numbers.number(c, k) / 256;
            sum += v * w, size += std::fabs(v * w), weights += std::fabs(w);
        }
        const double scale = epilogue.scaling.scale(c), bias = epilogue.scaling.bias(c), left_out = 64.0 * static_cast<double>(entries);
        const double off = std::fabs(scale) * (step * (0.51 * weights + left_out) + size * 0x1p-21 + 0x1p-120);
        const double largest = std::fabs(scale) * size + std::fabs(bias) + off;
        const double error = epilogue.error_after(off + largest * 0x1p-22, largest, c, at);
        const float middle = epilogue.stepped(static_cast<float>(sum * scale + bias), c, at);
        low.push_back(static_cast<float>(middle - error)), high.push_back(static_cast<float>(middle + error));
    }
};

}  // namespace

void fused_float_conv2d(Draws& draws) {
    const Machine machine(draws);
    if (machine.has_float_weights()) return;  // which take weights of floats
    const Geometry g = geometry(draws, false, Lies::ANYHOW, 15000);
    const bool pools = draws.coin();
    const Guarded<float> x = images(draws, g, draws.mood());
    const Numbers numbers(draws, g);
    const Window pool = window(draws, g.out_size, true);
    const int64_t n = g.out_channels, rows = g.batch * out_pixels(g);
    const Epilogue epilogue(draws, rows, n, !pools);
    const Fused fused = epilogue.fused();
    Guarded<float> y(n * (pools ? g.batch * pool.out_size[0] * pool.out_size[1] : rows), draws.coin());
    const int32_t code =
        px_float_conv2d(machine.isa, x.data(), nullptr, &g, numbers.panels(), &fused, epilogue.others(),
                        pools ? &pool : nullptr, y.data(), machine.threads);
    if (machine.isa != AMX || !machine.is_known()) {
        return require(code == 1 && is_untouched(y), "px_float_conv2d: code", -1, 1, code);
    }
    const std::vector<float> all = without_gaps(g, x);
    const Takes takes_them = takes(all, g.size[0] * g.size[1] * g.channels);
    const bool is_right = takes_them == Takes::PERHAPS || code == (takes_them == Takes::NO ? 2 : 0);
    require(is_right, "px_float_conv2d: code", -1, takes_them == Takes::NO ? 2 : 0, code);
    if (code != 0) return;
    Bounds bounds(g, epilogue, numbers, all);
    if (pools) bounds.low = pooled(pool, g.batch, n, bounds.low), bounds.high = pooled(pool, g.batch, n, bounds.high);
    for (int64_t i = 0; i < y.size(); ++i) {
        const float least = bounds.low[static_cast<size_t>(i)], most = bounds.high[static_cast<size_t>(i)];
        if (!std::isfinite(least) || !std::isfinite(most)) continue;
        require(least <= y[i] && y[i] <= most, "px_float_conv2d", i, least, y[i]);
    }
}

}  // namespace fuzz
