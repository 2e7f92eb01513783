// Epilogue steps alone, and with a pool after them. Layer norms, and means of pixels.
#include "fuzz/epilogues.hpp"

namespace fuzz {

void finish(Draws& draws) {
    const Machine machine(draws);
    int64_t m = draws.rarely() ? 0 : draws.size(300), channels = draws.size(200);
    if (m > 0) bound(draws, {&m, &channels}, 4000);
    const Epilogue epilogue(draws, m, channels, true);
    const Fused fused = epilogue.fused();
    Guarded<float> x = floats(draws, m * channels, draws.mood()), apart(m * channels, draws.coin());
    const std::vector<float> before = x.copy();
    Guarded<float>& y = draws.coin() ? x : apart;
    const int32_t code =
        px_finish(machine.isa, x.data(), m, channels, &fused, epilogue.others(), y.data(), machine.threads);
    require(code == !machine.is_known(), "px_finish: code", -1, !machine.is_known(), code);
    if (code != 0) return require(x.is_still(before) && is_untouched(apart), "px_finish writes though it refuses");
    for (int64_t i = 0; i < y.size(); ++i) {
        const float expected = epilogue.stepped(before[static_cast<size_t>(i)], i % channels, i);
        require(same(expected, y[i]), "px_finish", i, expected, y[i]);
    }
}

void finish_max_pool2d(Draws& draws) {
    const Machine machine(draws);
    int64_t batch = draws.within(0, 3), channels = draws.size(100), size[] = {draws.size(16), draws.size(16)};
    if (batch > 0) bound(draws, {&channels, &size[0], &size[1]}, 2000);
    const Window w = window(draws, size, true);
    const Epilogue epilogue(draws, 0, channels, false);
    const Fused fused = epilogue.fused();
    const Guarded<float> x = floats(draws, batch * size[0] * size[1] * channels, draws.mood());
    Guarded<float> y(batch * w.out_size[0] * w.out_size[1] * channels, draws.coin());
    const int32_t code =
        px_finish_max_pool2d(machine.isa, x.data(), batch, channels, &w, &fused, y.data(), machine.threads);
    require(code == !machine.is_known(), "px_finish_max_pool2d: code", -1, !machine.is_known(), code);
    if (code != 0) return require(is_untouched(y), "px_finish_max_pool2d writes though it refuses");
    std::vector<float> stepped;
    for (int64_t i = 0; i < x.size(); ++i) stepped.push_back(epilogue.stepped(x[i], i % channels, i));
    const std::vector<float> expected = pooled(w, batch, channels, stepped);
    for (int64_t i = 0; i < y.size(); ++i) {
        const float right = expected[static_cast<size_t>(i)];
        require(equal(right, y[i]), "px_finish_max_pool2d", i, right, y[i]);
    }
}

namespace {

// Compare a row with its norm in doubles. The bound on the error grows as the mean hides the deviations. Rows that
// floats cannot sum are only required to stay within their memory.
void check_norm(const float* x, const LayerNorm& norm, const float* y) {
    double mean = 0, variance = 0, largest = 0;
    bool is_finite = true;
    for (int64_t i = 0; i < norm.width; ++i) {
        is_finite = is_finite && std::fabs(x[i]) < 1e15;
        mean += static_cast<double>(x[i]) / static_cast<double>(norm.width);
        largest = std::fmax(largest, std::fabs(x[i]));
    }
    for (int64_t i = 0; i < norm.width; ++i) {
        variance += (x[i] - mean) * (x[i] - mean) / static_cast<double>(norm.width);
        if (std::isnan(mean)) require(std::isnan(y[i]), "px_layer_norm: NaN", i, NAN, y[i]);
    }
    const double factor = 1 / std::sqrt(variance + static_cast<double>(norm.eps));
    for (int64_t i = 0; i < norm.width && is_finite; ++i) {
        const double weight = norm.weight[i], expected = (x[i] - mean) * factor * weight + norm.bias[i];
        const double error = (largest * factor + 1) * std::fabs(weight) + std::fabs(norm.bias[i]);
        const bool is_near = std::fabs(expected - static_cast<double>(y[i])) <= error * 0x1p-19;
        require(is_near || !std::isfinite(expected) || std::fabs(expected) > 1e30, "px_layer_norm", i, expected, y[i]);
    }
}

}  // namespace

void layer_norm(Draws& draws) {
    const Machine machine(draws);
    int64_t m = draws.rarely() ? 0 : draws.size(300), width = draws.size(300);
    if (m > 0) bound(draws, {&m, &width}, 4000);
    const Guarded<float> weight = floats(draws, width, Mood::COMMON), bias = floats(draws, width, draws.mood());
    const LayerNorm norm = {width, weight.data(), bias.data(), draws.one_of({1e-5f, 1e-12f, 1.0f})};
    Guarded<float> x = floats(draws, m * width, draws.mood()), apart(m * width, draws.coin());
    const std::vector<float> before = x.copy();
    Guarded<float>& y = draws.coin() ? x : apart;
    const int32_t code = px_layer_norm(machine.isa, x.data(), m, &norm, y.data(), machine.threads);
    require(code == !machine.is_known(), "px_layer_norm: code", -1, !machine.is_known(), code);
    if (code != 0) return require(x.is_still(before) && is_untouched(apart), "px_layer_norm writes though it refuses");
    for (int64_t r = 0; r < m; ++r) check_norm(before.data() + r * width, norm, y.data() + r * width);
}

void pixel_means(Draws& draws) {
    const Machine machine(draws);
    int64_t batch = draws.within(0, 3), pixels = draws.size(600), blocks = draws.within(1, 3);
    if (batch > 0) bound(draws, {&batch, &pixels, &blocks}, 300);
    const int64_t channels = 64 * blocks;
    const Guarded<float> x = floats(draws, batch * pixels * channels, draws.one_of({Mood::COMMON, Mood::WHOLE}));
    Guarded<float> y(batch * channels, draws.coin());
    const int32_t code =
        px_pixel_means(machine.isa, x.data(), batch, pixels, channels, y.data(), machine.threads);
    require(code == !machine.is_known(), "px_pixel_means: code", -1, !machine.is_known(), code);
    if (code != 0) return require(is_untouched(y), "px_pixel_means writes though it refuses");
    for (int64_t i = 0; i < y.size(); ++i) {
        double total = 0, size = 0;
        for (int64_t pixel = 0; pixel < pixels; ++pixel) {
            const double v = x[(i / channels * pixels + pixel) * channels + i % channels];
            total += v, size += std::fabs(v);
        }
        const double count = static_cast<double>(pixels), expected = total / count;
        const double off = std::fabs(expected - static_cast<double>(y[i]));
        require(off <= size / count * 0x1p-18, "px_pixel_means", i, expected, y[i]);
    }
}

}  // namespace fuzz
