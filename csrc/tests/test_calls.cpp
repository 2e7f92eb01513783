#include "tests/test_calls.hpp"

#include <cmath>
#include <cstring>
#include <random>

namespace {

constexpr int64_t ROWS = 48, ENTRIES = 520, OUTPUTS = 330, CHANNELS = 64, LATENTS = 40000, COLUMNS = 800;

int64_t outputs_of(const Geometry& g) { return g.batch * g.out_size[0] * g.out_size[1] * g.out_channels; }
int64_t inputs_of(const Geometry& g) { return g.batch * g.image_stride; }

std::vector<Call> rows_of_signs(int32_t isa, const Shared& s) {
    const auto binary = [=, &s](const float* x, float* y, int32_t threads) {
        Fused wrapped = s.scaled;
        wrapped.output.overflow = WRAP;
        return px_binary_linear(isa, x, nullptr, nullptr, ROWS, ENTRIES, ENTRIES, s.words.data(), OUTPUTS, &wrapped,
                                nullptr, nullptr, y, threads);
    };
    const auto fused = [=, &s](const float* x, float* y, int32_t threads) {
        return px_binary_linear(isa, x, nullptr, nullptr, ROWS, ENTRIES, ENTRIES, s.words.data(), OUTPUTS, &s.fused,
                                nullptr, nullptr, y, threads);
    };
    constexpr int64_t inputs = ROWS * ENTRIES, outputs = ROWS * OUTPUTS;
    return {{"binary linear", inputs, outputs, binary}, {"fused binary linear", inputs, outputs, fused}};
}

std::vector<Call> weights_of_signs(int32_t isa) {
    constexpr int64_t rows = 2048, floats = rows * 64 * 8 / 32;
    const auto prepack = [=](const float* x, float* y, int32_t threads) {
        return px_prepack_signs(isa, reinterpret_cast<const uint8_t*>(x), 1, rows, 64, 8,
                                reinterpret_cast<uint64_t*>(y), threads);
    };
    return {{"prepacked weight", floats, floats, prepack}};
}

std::vector<Call> rows_of_floats(int32_t isa, const Shared& s) {
    const auto exact = [=, &s](const float* x, float* y, int32_t threads) {
        return px_weight_only_linear(isa, 0, x, ROWS, ENTRIES, ENTRIES, s.words.data(), OUTPUTS, &s.scaled, nullptr, y,
                                     threads);
    };
    const auto rounded = [=, &s](const float* x, float* y, int32_t threads) {
        return px_weight_only_linear(isa, 1, x, ROWS, ENTRIES, ENTRIES, s.words.data(), OUTPUTS, &s.scaled, nullptr, y,
                                     threads);
    };
    const auto fused = [=, &s](const float* x, float* y, int32_t threads) {
        return px_weight_only_linear(isa, 1, x, ROWS, ENTRIES, ENTRIES, s.words.data(), OUTPUTS, &s.fused, nullptr, y,
                                     threads);
    };
    const auto levels = [=, &s](const float* x, float* y, int32_t threads) {
        return px_int8_linear(isa, x, ROWS, ENTRIES, ENTRIES, s.bytes.data(), OUTPUTS, &s.scaled, nullptr, y, threads);
    };
    const auto fused_levels = [=, &s](const float* x, float* y, int32_t threads) {
        return px_int8_linear(isa, x, ROWS, ENTRIES, ENTRIES, s.bytes.data(), OUTPUTS, &s.fused, nullptr, y, threads);
    };
    constexpr int64_t inputs = ROWS * ENTRIES, outputs = ROWS * OUTPUTS;
    return {{"floats times signs", inputs, outputs, exact},
            {"rounded floats times signs", inputs, outputs, rounded},
            {"fused rounded floats times signs", inputs, outputs, fused},
            {"8-bit weight", inputs, outputs, levels},
            {"fused 8-bit weight", inputs, outputs, fused_levels}};
}

std::vector<Call> images_of_signs(int32_t isa, const Shared& s) {
    const auto plain = [=, &s](const Geometry& g, const float* x, float* y, int32_t threads) {
        return px_binary_conv2d(isa, x, nullptr, nullptr, &g, s.words.data(), &s.plain, nullptr, nullptr, y, threads);
    };
    const auto several = [=, &s](const float* x, float* y, int32_t threads) { return plain(s.several, x, y, threads); };
    const auto thin = [=, &s](const float* x, float* y, int32_t threads) { return plain(s.depthwise, x, y, threads); };
    const auto fused = [=, &s](const float* x, float* y, int32_t threads) {
        return px_binary_conv2d(isa, x, nullptr, nullptr, &s.image, s.words.data(), &s.fused, nullptr, nullptr, y,
                                threads);
    };
    return {{"binary convolution of several images", inputs_of(s.several), outputs_of(s.several), several},
            {"depthwise binary convolution", inputs_of(s.depthwise), outputs_of(s.depthwise), thin},
            {"fused binary convolution", inputs_of(s.image), outputs_of(s.image), fused}};
}

std::vector<Call> images_of_floats(int32_t isa, const Shared& s) {
    const auto exact = [=, &s](const float* x, float* y, int32_t threads) {
        return px_weight_only_conv2d(isa, 0, x, nullptr, &s.image, s.words.data(), &s.plain, nullptr, nullptr, y,
                                     threads);
    };
    const auto rounded = [=, &s](const float* x, float* y, int32_t threads) {
        return px_weight_only_conv2d(isa, 1, x, nullptr, &s.image, s.words.data(), &s.plain, nullptr, nullptr, y,
                                     threads);
    };
    const auto fused_signs = [=, &s](const float* x, float* y, int32_t threads) {
        return px_weight_only_conv2d(isa, 1, x, nullptr, &s.image, s.words.data(), &s.fused, nullptr, &s.pool, y,
                                     threads);
    };
    const auto levels = [=, &s](const float* x, float* y, int32_t threads) {
        return px_int8_conv2d(isa, x, nullptr, &s.image, s.bytes.data(), &s.plain, nullptr, nullptr, y, threads);
    };
    const auto fused = [=, &s](const float* x, float* y, int32_t threads) {
        return px_int8_conv2d(isa, x, nullptr, &s.image, s.bytes.data(), &s.fused, nullptr, nullptr, y, threads);
    };
    const auto pooled = [=, &s](const float* x, float* y, int32_t threads) {
        return px_int8_conv2d(isa, x, nullptr, &s.image, s.bytes.data(), &s.fused, nullptr, &s.pool, y, threads);
    };
    const auto floats = [=, &s](const float* x, float* y, int32_t threads) {
        return px_float_conv2d(isa, x, nullptr, &s.image, s.bytes.data(), &s.fused, nullptr, nullptr, y, threads);
    };
    const auto thin = [=, &s](const float* x, float* y, int32_t threads) {
        const Fused fused = {s.fused.output, 1, s.fused.steps, nullptr};
        return px_float_conv2d(isa, x, nullptr, &s.depthwise, s.bytes.data(), &fused, nullptr, nullptr, y, threads);
    };
    const int64_t inputs = inputs_of(s.image), outputs = outputs_of(s.image);
    const int64_t fewer = s.pool.out_size[0] * s.pool.out_size[1] * s.image.out_channels;
    std::vector<Call> calls = {{"images times signs", inputs, outputs, exact},
                               {"rounded images times signs", inputs, outputs, rounded},
                               {"rounded images times signs with a pool", inputs, fewer, fused_signs},
                               {"8-bit convolution", inputs, outputs, levels},
                               {"fused 8-bit convolution", inputs, outputs, fused},
                               {"8-bit convolution with a pool", inputs, fewer, pooled},
                               {"depthwise convolution", inputs_of(s.depthwise), outputs_of(s.depthwise), thin}};
    if (isa != PORTABLE && isa != NEON) calls.push_back({"float convolution", inputs, outputs, floats});
    return calls;
}

std::vector<Call> others(int32_t isa, const Shared& s) {
    const auto finish = [=, &s](const float* x, float* y, int32_t threads) {
        return px_finish(isa, x, 500, CHANNELS, &s.fused, nullptr, y, threads);
    };
    const auto pool = [=, &s](const float* x, float* y, int32_t threads) {
        return px_finish_max_pool2d(isa, x, 1, CHANNELS, &s.pool, &s.fused, y, threads);
    };
    const auto norm = [=, &s](const float* x, float* y, int32_t threads) {
        const LayerNorm norm = {CHANNELS, s.vector.data(), s.zeros.data(), 1e-5f};
        return px_layer_norm(isa, x, 600, &norm, y, threads);
    };
    const auto means = [=](const float* x, float* y, int32_t threads) {
        return px_pixel_means(isa, x, 8, 70, CHANNELS, y, threads);
    };
    const auto quantize = [=](const float* x, float* y, int32_t threads) {
        return px_quantize(isa, 1, SIGN_SWISH, 0, 2, LATENTS, COLUMNS, x, y, y + LATENTS, nullptr, threads);
    };
    const auto slope = [=](const float* x, float* y, int32_t threads) {
        return px_quantize_backward(isa, 0, SIGN_SWISH, 2, LATENTS, COLUMNS, x, x, nullptr, nullptr, y, threads);
    };
    const auto attend = [=, &s](const float* x, float* y, int32_t threads) {
        return px_attention(isa, x, x + 128, x + 256, &s.attention, y, threads);
    };
    const auto decode = [=, &s](const float* x, float* y, int32_t threads) {
        const float *const norm = s.vector.data(), *const angles = s.vector.data();
        const DecoderProduct wide = {s.words.data(), 128, &s.plain}, narrow = {s.words.data(), 64, &s.plain};
        const Decoder decoder = {64, 128, 2, 1, 64, 1e-5f, 0.1f, 1, norm, norm, norm, norm,
                                 wide, narrow, narrow, narrow, wide, wide, narrow};
        float* const cache = y + 64;
        std::fill(cache, cache + 2 * 3000 * 64, 0.5f);
        const DecoderCache cached = {cache, cache + 3000 * 64, 2999, {3000 * 64, 3000 * 64}, nullptr};
        return px_decoder_layer(isa, x, 1, angles, angles, &cached, &decoder, y, threads);
    };
    const int64_t pixels = s.pool.size[0] * s.pool.size[1], fewer = s.pool.out_size[0] * s.pool.out_size[1];
    std::vector<Call> calls = {{"steps", 500 * CHANNELS, 500 * CHANNELS, finish},
                               {"steps and a pool", pixels * CHANNELS, fewer * CHANNELS, pool},
                               {"layer norm", 600 * CHANNELS, 600 * CHANNELS, norm},
                               {"decoder layer", 64, 64 + 2 * 3000 * 64, decode},
                               {"means of pixels", 8 * 70 * CHANNELS, 8 * CHANNELS, means},
                               {"quantizer of bfloat16", LATENTS, LATENTS + 2 * LATENTS / COLUMNS, quantize},
                               {"gradient of the quantizer", LATENTS, LATENTS, slope}};
    const Attention none = {0, 1, 1, 16, 16, {}, {}, {}, 1};
    if (px_attention(isa, nullptr, nullptr, nullptr, &none, nullptr, 1) == DONE) {
        calls.push_back({"attention", 100 * 3 * 128, 100 * 128, attend});
    }
    return calls;
}

}  // namespace

Shared::Shared() : words(1 << 16), bytes(1 << 20), vector(1000), zeros(1000) {
    std::mt19937_64 random(7);
    for (uint64_t& word : words) word = random();
    for (int8_t& byte : bytes) byte = static_cast<int8_t>(random() % 2);  // also where totals of a block lie
    for (float& value : vector) value = static_cast<float>(random() % 1000) * 0x1p-10f;
    image = several = larger_images(CHANNELS, 40, 1, true);
    several.batch = 4;
    depthwise = larger_images(256, 256, 1, true);
    depthwise.groups = 256;
    pool = {};
    for (int i = 0; i < 2; ++i) {
        pool.size[i] = image.out_size[i], pool.kernel[i] = pool.stride[i] = 2;
        pool.out_size[i] = pool.size[i] / 2;
    }
    scaled = {{NEVER, 8, 1, OUTPUTS, vector.data(), vector.data()}, 0, nullptr, nullptr};
    fused = {{NEVER, 8, 1, 1000, vector.data(), zeros.data()}, 1, &step, nullptr};
    for (int64_t* strides : {attention.q_strides, attention.k_strides, attention.v_strides}) {
        strides[0] = 100 * 3 * 128, strides[1] = 32, strides[2] = 3 * 128;
    }
}

Floats Call::answer(const Floats& x, int32_t threads) const {
    Floats y(static_cast<size_t>(outputs), NAN);
    if (run(x.data(), y.data(), threads) != DONE) y.clear();
    return y;
}

std::vector<Call> calls_of(int32_t isa, const Shared& shared) {
    std::vector<Call> calls;
    for (const auto& some : {weights_of_signs(isa), rows_of_signs(isa, shared), rows_of_floats(isa, shared),
                             images_of_signs(isa, shared), images_of_floats(isa, shared), others(isa, shared)}) {
        calls.insert(calls.end(), some.begin(), some.end());
    }
    return calls;
}

Floats drawn(int64_t count, unsigned seed) {
    std::mt19937_64 random(seed);
    Floats x(static_cast<size_t>(count));
    for (float& value : x) value = static_cast<float>(random() % 2001) * 0x1p-10f - 1.0f;
    return x;
}

bool are_same(const Floats& a, const Floats& b) {
    return !a.empty() && a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}
