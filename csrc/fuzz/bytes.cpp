// Int8 products of floats, and convolutions with means before and a pool after.
#include "fuzz/epilogues.hpp"
#include "fuzz/geometries.hpp"
#include "fuzz/sign_weights.hpp"

namespace fuzz {
namespace {

// Levels of (outputs, pieces, length), and their panels.
class Levels {
  public:
    Levels(Draws& draws, int64_t n, int64_t pieces, int64_t length)
        : length_(length), steps_((length + 63) / 64), entries_(pieces * length),
          levels_(static_cast<size_t>(n * entries_)), block_(pieces * steps_ * 1024 + 64),
          panels_((n + 15) / 16 * block_, draws.coin()) {
        std::fill(panels_.begin(), panels_.end(), 0);
        for (size_t i = 0; i < levels_.size(); ++i) put(static_cast<int64_t>(i), draws.random() % 255);
    }

    const int8_t* panels() const { return panels_.data(); }

    int64_t dot(const int64_t* x, int64_t output) const {
        int64_t sum = 0;
        for (int64_t k = 0; k < entries_; ++k) sum += x[k] * levels_[static_cast<size_t>(output * entries_ + k)];
        return sum;
    }

  private:
    void put(int64_t i, uint64_t byte) {
        const int64_t output = i / entries_, piece = i % entries_ / length_, k = i % length_;
        const int8_t level = static_cast<int8_t>(static_cast<int64_t>(byte) - 127);
        int8_t* const block = panels_.data() + output / 16 * block_;
        int8_t* const total = block + block_ - 64 + output % 16 * 4;
        levels_[static_cast<size_t>(i)] = level;
        block[(piece * steps_ + k / 64) * 1024 + k % 64 / 4 * 64 + output % 16 * 4 + k % 4] = level;
        int32_t sum;
        std::memcpy(&sum, total, sizeof sum);
        sum += 128 * level;
        std::memcpy(total, &sum, sizeof sum);
    }

    int64_t length_, steps_, entries_;
    std::vector<int8_t> levels_;
    int64_t block_;
    Guarded<int8_t> panels_;
};

// Floats that share one rounding step.
struct Rounded {
    std::vector<int64_t> whole;
    float step;

    explicit Rounded(const std::vector<float>& x) {
        float most = 0x1p-100f;
        bool is_finite = true;
        for (const float v : x) most = std::fmax(most, std::fabs(v)), is_finite &= std::isfinite(v);
        const float inverse = 127.0f / most;
        step = is_finite ? most / 127.0f : NAN;
        for (const float v : x) {
            const float scaled = v * inverse;
            whole.push_back(is_finite ? static_cast<int64_t>(std::rint(scaled)) : 0);
        }
    }

    float product(int64_t sum) const { return static_cast<float>(sum) * step; }
};

struct Product : Rows {
    Levels levels;

    static Product drawn(Draws& draws) {
        Rows rows = Rows::drawn(draws, {100, 150, 300}, 30000);
        const int64_t n = rows.n, entries = rows.entries;
        return {std::move(rows), Levels(draws, n, 1, entries)};
    }

    Rounded row(int64_t r) const {
        return Rounded(std::vector<float>(x.data() + r * stride, x.data() + r * stride + entries));
    }

    // Compare y with of(product, channel, place) for each product.
    template <class Of> void check(const Guarded<float>& y, const char* what, const Of& of) const {
        for (int64_t i = 0; i < m * n; i += n) {
            const Rounded row = this->row(i / n);
            for (int64_t c = 0; c < n; ++c) {
                const float expected = of(row.product(levels.dot(row.whole.data(), c)), c, i + c);
                require(equal(expected, y[i + c]), what, i + c, expected, y[i + c]);
            }
        }
    }
};

}  // namespace

void int8_linear(Draws& draws) {
    const Machine machine(draws);
    const Product p = Product::drawn(draws);
    const Epilogue epilogue(draws, p.m, p.n, true);
    const Fused fused = epilogue.fused();
    Guarded<float> y(p.m * p.n, draws.coin());
    const int32_t code = px_int8_linear(machine.isa, p.x.data(), p.m, p.entries, p.stride, p.levels.panels(), p.n,
                                        &fused, epilogue.others(), y.data(), machine.threads);
    require(code == !machine.is_known(), "px_int8_linear: code", -1, !machine.is_known(), code);
    if (code != 0) return require(is_untouched(y), "px_int8_linear writes though it refuses");
    p.check(y, "px_int8_linear", [&](float v, int64_t c, int64_t at) { return epilogue.of(v, c, at); });
}

namespace {

Levels levels_of(Draws& draws, const Geometry& g) {
    const bool is_whole = g.dilation[1] == 1 || g.kernel[1] == 1;
    return Levels(draws, g.out_channels, is_whole ? g.kernel[0] : taps_of(g),
                  g.channels * (is_whole ? g.kernel[1] : 1));
}

// The products of all images, (batch, out height, out width, out channels), of images that are channels last.
std::vector<float> products(const Geometry& g, const Levels& levels, const std::vector<float>& x) {
    const int64_t entries = g.size[0] * g.size[1] * g.channels;
    std::vector<float> all;
    for (int64_t image = 0; image < g.batch; ++image) {
        const Rounded rounded(std::vector<float>(x.begin() + image * entries, x.begin() + (image + 1) * entries));
        std::vector<int64_t> patch(static_cast<size_t>(taps_of(g) * g.channels));
        for (int64_t pixel = 0; pixel < out_pixels(g); ++pixel) {
            for (int64_t k = 0; k < taps_of(g) * g.channels; ++k) {
                const int64_t met = pixel_met(g, pixel, k / g.channels), at = met * g.channels + k % g.channels;
                patch[static_cast<size_t>(k)] = met < 0 ? 0 : rounded.whole[static_cast<size_t>(at)];
            }
            for (int64_t c = 0; c < g.out_channels; ++c) all.push_back(rounded.product(levels.dot(patch.data(), c)));
        }
    }
    return all;
}

// A convolution with means before it or a pool after it, or both.
struct Surrounded {
    Geometry of_x, g;
    Window mean = {}, pool = {};
    bool takes_means, pools;

    Surrounded(Draws& draws, bool has_groups, bool may_pool)
        : of_x(geometry(draws, has_groups, Lies::ANYHOW, 30000)), g(of_x), takes_means(draws.coin()),
          pools(draws.coin() && may_pool) {
        mean = window(draws, of_x.size, false);
        if (takes_means) g = of_means(of_x, mean);
        pool = window(draws, g.out_size, true);
    }

    const Window* mean_or_null() const { return takes_means ? &mean : nullptr; }
    const Window* pool_or_null() const { return pools ? &pool : nullptr; }
    int64_t rows() const { return g.batch * out_pixels(g); }
    int64_t outputs() const {
        return g.out_channels * (pools ? g.batch * pool.out_size[0] * pool.out_size[1] : rows());
    }

    // Return what is convolved, channels last.
    std::vector<float> seen(const Guarded<float>& x) const {
        const std::vector<float> all = without_gaps(of_x, x);
        return takes_means ? means(of_x, mean, all) : all;
    }

    // Compare y with the numbers after the convolution and all steps.
    void check(const Guarded<float>& y, std::vector<float> expected, const char* what) const {
        if (pools) expected = pooled(pool, g.batch, g.out_channels, expected);
        for (int64_t i = 0; i < y.size(); ++i) {
            const float right = expected[static_cast<size_t>(i)], found = y[out_place(g, i)];
            require(equal(right, found), what, i, right, found);
        }
    }
};

}  // namespace

void int8_conv2d(Draws& draws) {
    const Machine machine(draws);
    Surrounded s(draws, false, true);
    const Guarded<float> x = images(draws, s.of_x, draws.mood());
    const Levels levels = levels_of(draws, s.g);
    const Epilogue epilogue(draws, s.rows(), s.g.out_channels, !s.pools);
    s.g.has_planes = !s.pools && epilogue.others() == nullptr && draws.coin();
    const Fused fused = epilogue.fused();
    Guarded<float> y(s.outputs(), draws.coin());
    const int32_t code =
        px_int8_conv2d(machine.isa, x.data(), s.mean_or_null(), &s.g, levels.panels(), &fused, epilogue.others(),
                       s.pool_or_null(), y.data(), machine.threads);
    require(code == !machine.is_known(), "px_int8_conv2d: code", -1, !machine.is_known(), code);
    if (code != 0) return require(is_untouched(y), "px_int8_conv2d writes though it refuses");
    std::vector<float> expected = products(s.g, levels, s.seen(x));
    for (size_t i = 0; i < expected.size(); ++i) {
        const int64_t at = static_cast<int64_t>(i);
        expected[i] = epilogue.of(expected[i], at % s.g.out_channels, at);
    }
    s.check(y, std::move(expected), "px_int8_conv2d");
}

// The products must equal those without means, steps and pool bit by bit. With a pool exact ones are summed in another
// order.
void fused_weight_only_conv2d(Draws& draws) {
    const Machine machine(draws);
    const bool rounds = draws.coin();
    const Surrounded s(draws, true, rounds);
    const Geometry& g = s.g;
    const int64_t n = g.out_channels;
    const Guarded<float> x = images(draws, s.of_x, draws.mood());
    const SignWeight weight(draws, g.groups, n / g.groups, taps_of(g) * (g.channels / g.groups));
    const Epilogue epilogue(draws, s.rows(), n, !s.pools);
    const Fused fused = epilogue.fused();
    Guarded<float> y(s.outputs(), draws.coin());
    const int32_t code =
        px_weight_only_conv2d(machine.isa, rounds, x.data(), s.mean_or_null(), &g, weight.panels(), &fused,
                              epilogue.others(), s.pool_or_null(), y.data(), machine.threads);
    require(code == !machine.is_known(), "px_weight_only_conv2d: code", -1, !machine.is_known(), code);
    if (code != 0) return require(is_untouched(y), "px_weight_only_conv2d writes though it refuses");
    Geometry plain = g;
    plain.channel_stride = 1, plain.pixel_stride = g.channels, plain.row_stride = g.size[1] * g.channels;
    plain.image_stride = g.size[0] * plain.row_stride;
    const Fused scaled = epilogue.scaling.fused();
    std::vector<float> expected(static_cast<size_t>(s.rows() * n));
    px_weight_only_conv2d(machine.isa, rounds, s.seen(x).data(), nullptr, &plain, weight.panels(), &scaled, nullptr,
                          nullptr, expected.data(), machine.threads);
    for (size_t i = 0; i < expected.size(); ++i) {
        const int64_t at = static_cast<int64_t>(i);
        expected[i] = epilogue.stepped(expected[i], at % n, at);
    }
    s.check(y, std::move(expected), "px_weight_only_conv2d");
}

}  // namespace fuzz
