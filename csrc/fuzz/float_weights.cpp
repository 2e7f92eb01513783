// Float convolutions by multiply-adds, in one group or depthwise.
#include "fuzz/epilogues.hpp"
#include "fuzz/geometries.hpp"

namespace fuzz {
namespace {

// Floats of (outputs, entries), and their panels. Products with those of a depthwise convolution are exact, because not
// every instruction set rounds products and sums at once.
class Weight {
  public:
    Weight(Draws& draws, const Geometry& g)
        : entries_(taps_of(g) * g.channels / g.groups), numbers_(static_cast<size_t>(g.out_channels * entries_)),
          panels_((g.out_channels + 15) / 16 * 16 * entries_, draws.coin()) {
        std::fill(panels_.begin(), panels_.end(), 0.0f);
        const int64_t width = panels_.size() / entries_;
        for (size_t i = 0; i < numbers_.size(); ++i) {
            const int64_t output = static_cast<int64_t>(i) / entries_, entry = static_cast<int64_t>(i) % entries_;
            numbers_[i] = g.groups > 1 ? draws.one_of({-1.0f, 1.0f}) : draws.number(Mood::COMMON);
            const int64_t in_block = output / 16 * 16 * entries_ + entry * 16 + output % 16;
            panels_[g.groups > 1 ? entry * width + output : in_block] = numbers_[i];
        }
    }

    const float* panels() const { return panels_.data(); }
    float number(int64_t output, int64_t k) const { return numbers_[static_cast<size_t>(output * entries_ + k)]; }

  private:
    int64_t entries_;
    std::vector<float> numbers_;
    Guarded<float> panels_;
};

// The sums of all images, (batch, out height, out width, out channels), of images that are channels last.
std::vector<float> sums(const Geometry& g, const Weight& weight, const std::vector<float>& x) {
    const int64_t channels = g.channels / g.groups, entries = taps_of(g) * channels, pixels = g.size[0] * g.size[1];
    std::vector<float> all;
    for (int64_t i = 0; i < g.batch * out_pixels(g) * g.out_channels; ++i) {
        const int64_t output = i % g.out_channels, row = i / g.out_channels, first = row / out_pixels(g) * pixels;
        float sum = 0;
        for (int64_t k = 0; k < entries; ++k) {
            const int64_t met = pixel_met(g, row % out_pixels(g), k / channels);
            const int64_t at = (first + met) * g.channels + (g.groups > 1 ? output : k % channels);
            if (met >= 0) sum = std::fma(x[static_cast<size_t>(at)], weight.number(output, k), sum);
        }
        all.push_back(sum);
    }
    return all;
}

}  // namespace

void fused_float_conv2d_by_multiply_adds(Draws& draws) {
    const Machine machine(draws);
    const bool is_depthwise = draws.coin();
    if (!is_depthwise && !machine.has_float_weights()) return;
    const Geometry of_x =
        is_depthwise ? depthwise_geometry(draws, 30000) : geometry(draws, false, Lies::ANYHOW, 30000);
    const bool takes_means = draws.coin(), pools = draws.coin();
    const Window mean = window(draws, of_x.size, false);
    const Geometry g = takes_means ? of_means(of_x, mean) : of_x;
    const Guarded<float> x = images(draws, of_x, draws.mood());
    const Weight weight(draws, g);
    const Window pool = window(draws, g.out_size, true);
    const int64_t n = g.out_channels, rows = g.batch * out_pixels(g);
    const Epilogue epilogue(draws, rows, n, !pools);
    const Fused fused = epilogue.fused();
    Guarded<float> y(n * (pools ? g.batch * pool.out_size[0] * pool.out_size[1] : rows), draws.coin());
    const int32_t code =
        px_float_conv2d(machine.isa, x.data(), takes_means ? &mean : nullptr, &g, weight.panels(), &fused,
                        epilogue.others(), pools ? &pool : nullptr, y.data(), machine.threads);
    require(code == !machine.is_known(), "px_float_conv2d: code", -1, !machine.is_known(), code);
    if (code != 0) return require(is_untouched(y), "px_float_conv2d writes though it refuses");
    const std::vector<float> seen = without_gaps(of_x, x);
    std::vector<float> expected = sums(g, weight, takes_means ? means(of_x, mean, seen) : seen);
    for (size_t i = 0; i < expected.size(); ++i) {
        expected[i] = epilogue.of(expected[i], static_cast<int64_t>(i) % n, static_cast<int64_t>(i));
    }
    if (pools) expected = pooled(pool, g.batch, n, expected);
    for (int64_t i = 0; i < y.size(); ++i) {
        const float right = expected[static_cast<size_t>(i)];
        require(equal(right, y[i]), "px_float_conv2d", i, right, y[i]);
    }
}

}  // namespace fuzz
