#include "fuzz/epilogues.hpp"

#include "epilogue/gelu.hpp"
#include "fuzz/geometries.hpp"

namespace fuzz {

int64_t held_integer(int64_t sum, const Output& output) {
    const int64_t half = int64_t{1} << (output.bits - 1);
    if (output.overflow == NEVER) return sum;
    if (output.overflow == SATURATE) return std::clamp(sum, -half, half - 1);
    return ((sum + half) & (2 * half - 1)) - half;
}

float held(int64_t sum, const Output& output) {
    const float value = static_cast<float>(held_integer(sum, output));
    if (output.overflow != CYCLIC) return value;
    const float falling = output.slope * (static_cast<float>(int64_t{1} << (output.bits - 1)) - std::fabs(value));
    return std::fabs(value) <= falling ? value : std::copysign(falling, value);
}

Output accumulator(Draws& draws) {
    const int32_t overflow = draws.one_of<int32_t>({NEVER, NEVER, WRAP, SATURATE, CYCLIC});
    const int32_t bits = static_cast<int32_t>(draws.within(2, draws.coin() ? 9 : 24));
    return {overflow, bits, draws.one_of({0.3f, 1.0f, 2.0f, 1000.0f}), 0, nullptr, nullptr};
}

namespace {

Mood mood_of_vectors(Draws& draws) { return draws.rarely() ? Mood::SPECIAL : Mood::COMMON; }

// A vector of one float, whose numbers tests/kernels/test_fused_layers.py compares with the definition.
struct OneFloat {
    static constexpr int outputs = 1;
    using Floats = proxconnect::Vectors<1>::Floats;

    static Floats fma(Floats a, Floats b, Floats c) { return Floats{std::fma(a[0], b[0], c[0])}; }
};

}  // namespace

Scaling::Scaling(Draws& draws, int64_t channels)
    : scales_(draws.one_of<int64_t>({0, 1, channels, channels + BEYOND, channels + BEYOND})),
      has_bias_(scales_ > channels || draws.coin()),
      scale_(floats(draws, std::min(scales_, channels), mood_of_vectors(draws), scales_ > channels ? BEYOND : 0)),
      bias_(floats(draws, has_bias_ ? channels : 0, mood_of_vectors(draws), scales_ > channels ? BEYOND : 0)) {}

Epilogue::Epilogue(Draws& draws, int64_t rows, int64_t channels, bool may_add)
    : scaling(draws, channels), channels_(channels) {
    for (int64_t count = draws.within(0, 4); count > 0; --count) add_step(draws, rows, may_add ? ADD : SLOPE);
    for (const Guarded<float>& other : others_) others_at_.push_back(other.data());
}

const float* Epilogue::vector(Draws& draws) {
    vectors_.push_back(floats(draws, channels_, mood_of_vectors(draws), BEYOND));
    return vectors_.back().data();
}

void Epilogue::add_step(Draws& draws, int64_t rows, int64_t last_kind) {
    const int32_t kind = draws.rarely() ? GELU : static_cast<int32_t>(draws.within(AFFINE, last_kind));
    Step step = {kind, 0, 0, nullptr, nullptr};
    if (step.kind == AFFINE) step.a = vector(draws), step.b = vector(draws);
    if (step.kind == SLOPE) step.a = vector(draws);
    if (step.kind == CLAMP) step.low = draws.one_of({0.0f, -1.0f}), step.high = draws.one_of({1.0f, 6.0f, INFINITY});
    if (step.kind == ADD) others_.push_back(floats(draws, rows * channels_, draws.mood()));
    steps_.push_back(step);
}

Fused Epilogue::fused() const {
    Fused fused = scaling.fused(output);
    fused.step_count = static_cast<int64_t>(steps_.size()), fused.steps = steps_.data();
    return fused;
}

float Epilogue::of(float sum, int64_t channel, int64_t at) const {
    return stepped(scaling.of(sum, channel), channel, at);
}

float Epilogue::stepped(float v, int64_t channel, int64_t at) const {
    size_t added = 0;
    for (const Step& step : steps_) {
        if (step.kind == AFFINE) v = std::fma(v, step.a[channel], step.b[channel]);
        if (step.kind == CLAMP) v = v < step.low ? step.low : v > step.high ? step.high : v;
        if (step.kind == SLOPE) v = v > 0 ? v : step.a[channel] * v;
        if (step.kind == ADD) v = v + others_[added++][at];
        if (step.kind == GELU) v = proxconnect::gelu<OneFloat>(OneFloat::Floats{v})[0];
    }
    return v;
}

double Epilogue::error_after(double error, double most, int64_t channel, int64_t at) const {
    constexpr double ROUNDING = 0x1p-23;
    const auto grow = [&](double by, double shift) {
        most = most * std::fmax(by, 1) + shift, error = error * std::fmax(by, 1) + most * ROUNDING;
    };
    size_t added = 0;
    for (const Step& step : steps_) {
        if (step.kind == ADD) grow(1, std::fabs(others_[added++][at]));
        if (step.kind == AFFINE) grow(std::fabs(step.a[channel]), std::fabs(step.b[channel]));
        if (step.kind == SLOPE) grow(std::fabs(step.a[channel]), 0);
        if (step.kind == GELU) grow(1.2, 0), error += 2e-6;  // its steepest slope, and its jump near -5
    }
    return error;
}

Intervals::Intervals(Draws& draws, int64_t channels)
    : count_(draws.within(0, 3)), channels_(channels), low_(count_ * (channels + BEYOND), draws.coin()),
      width_(count_ * (channels + BEYOND), draws.coin()) {
    for (int64_t i = 0; i < low_.size(); ++i) {
        const bool is_first = i % (channels + BEYOND) < channels;
        const uint64_t bits = draws.random();
        low_[i] = is_first ? static_cast<int32_t>(bits % 64) - 32 : low_[i - channels];
        width_[i] = !is_first ? width_[i - channels] : bits >> 63 ? static_cast<uint32_t>(bits >> 32) % 16 : 1u << 31;
    }
}

uint64_t Intervals::bit(int64_t held_sum, int64_t channel) const {
    uint64_t odd = 0;
    for (int64_t k = 0; k < count_; ++k) {
        const int64_t at = k * (channels_ + BEYOND) + channel;
        odd ^= static_cast<uint32_t>(held_sum - low_[at]) < width_[at];
    }
    return odd;
}

Window window(Draws& draws, const int64_t* size, bool has_border) {
    Window w = {};
    for (int i = 0; i < 2; ++i) {
        w.size[i] = size[i], w.kernel[i] = draws.within(1, 4), w.stride[i] = draws.within(1, 4);
        w.padding[i] = has_border ? draws.below(w.kernel[i]) : 0;
        w.out_size[i] = draws.within(1, std::max<int64_t>((size[i] + w.padding[i] - 1) / w.stride[i] + 1, 1));
    }
    return w;
}

Geometry of_means(const Geometry& of_x, const Window& w) {
    Geometry g = of_x;
    for (int i = 0; i < 2; ++i) {
        g.size[i] = w.out_size[i];
        g.padding[i] = std::max(g.padding[i], (g.dilation[i] * (g.kernel[i] - 1) + 2 - g.size[i]) / 2);
    }
    find_out_size(g);
    return g;
}

std::vector<float> means(const Geometry& g, const Window& w, const std::vector<float>& x) {
    std::vector<float> all;
    for (int64_t i = 0; i < g.batch * w.out_size[0] * w.out_size[1] * g.channels; ++i) {
        const int64_t c = i % g.channels, pixel = i / g.channels % (w.out_size[0] * w.out_size[1]);
        const int64_t image = i / g.channels / (w.out_size[0] * w.out_size[1]);
        float sum = 0, count = 0;
        for_met(w, pixel / w.out_size[1], pixel % w.out_size[1], [&](int64_t row, int64_t column) {
            sum += x[static_cast<size_t>(((image * w.size[0] + row) * w.size[1] + column) * g.channels + c)];
            count += 1;
        });
        all.push_back(sum / count);
    }
    return all;
}

std::vector<float> pooled(const Window& w, int64_t batch, int64_t channels, const std::vector<float>& x) {
    std::vector<float> y;
    for (int64_t i = 0; i < batch * w.out_size[0] * w.out_size[1]; ++i) {
        const int64_t row = i / w.out_size[1] % w.out_size[0], image = i / w.out_size[1] / w.out_size[0];
        for (int64_t c = 0; c < channels; ++c) {
            float most = -INFINITY;
            for_met(w, row, i % w.out_size[1], [&](int64_t top, int64_t left) {
                const float v = x[static_cast<size_t>(((image * w.size[0] + top) * w.size[1] + left) * channels + c)];
                most = std::isnan(most) || v <= most ? most : v;
            });
            y.push_back(most);
        }
    }
    return y;
}

}  // namespace fuzz
