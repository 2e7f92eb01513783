// Several callers at the same time, each with inputs of its own and all with the same weights, whose work is shared out
// to threads as well: every answer is that of a caller alone. Above all for ThreadSanitizer: `make test-tsan`.
#include <atomic>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <functional>
#include <random>
#include <thread>
#include <vector>

#include "proxconnect.h"
#include "test_images.hpp"

namespace {

using Floats = std::vector<float>;

constexpr int64_t ROWS = 48, ENTRIES = 520, OUTPUTS = 330, CHANNELS = 64, BEYOND = 80;
constexpr int32_t THREADS = 3;

// A function of the library, large enough for threads, of which only the input differs from caller to caller.
struct Call {
    const char* name;
    int64_t inputs, outputs;
    std::function<int32_t(const Floats& x, Floats& y)> run;

    Floats answer(const Floats& x) const {
        Floats y(static_cast<size_t>(outputs), NAN);
        if (run(x, y) != 0) y.clear();
        return y;
    }
};

// What all callers read.
struct Shared {
    std::vector<uint64_t> words;
    std::vector<int8_t> bytes;
    Floats vector, zeros;
    Geometry image = larger_images(CHANNELS, 40, 1, true), several = image;
    Step step = {CLAMP, 0, 1, nullptr, nullptr};
    Fused fused;
    Attention attention = {1, 4, 100, 100, 32, {}, {}, {}, 0.2f};

    Shared() : words(1 << 16), bytes(1 << 20), vector(1000), zeros(1000) {
        std::mt19937_64 random(7);
        for (uint64_t& word : words) word = random();
        for (int8_t& byte : bytes) byte = static_cast<int8_t>(random() % 2);  // also where totals of a block lie
        for (float& value : vector) value = static_cast<float>(random() % 1000) * 0x1p-10f;
        several.batch = 4;
        fused = {{NEVER, 8, 1, 1, vector.data(), zeros.data()}, 1, &step, nullptr};
        for (int64_t* strides : {attention.q_strides, attention.k_strides, attention.v_strides}) {
            strides[0] = 100 * 3 * 128, strides[1] = 32, strides[2] = 3 * 128;
        }
    }

    Output output() const { return {WRAP, 8, 1, OUTPUTS, vector.data(), vector.data()}; }
    Affine affine() const { return {OUTPUTS, vector.data(), vector.data()}; }
};

std::vector<Call> rows_of_signs(int32_t isa, const Shared& s) {
    const auto binary = [=, &s](const Floats& x, Floats& y) {
        const Output output = s.output();
        return px_binary_linear(isa, x.data(), ROWS, ENTRIES, ENTRIES, s.words.data(), OUTPUTS, &output, y.data(),
                                THREADS);
    };
    const auto float_rows = [=, &s](const Floats& x, Floats& y) {
        const Affine affine = s.affine();
        return px_weight_only_linear(isa, x.data(), ROWS, ENTRIES, ENTRIES, s.words.data(), OUTPUTS, &affine, y.data(),
                                     THREADS);
    };
    const auto rounded = [=, &s](const Floats& x, Floats& y) {
        return px_fused_float_linear(isa, 1, x.data(), ROWS, ENTRIES, ENTRIES, s.words.data(), OUTPUTS, &s.fused,
                                     nullptr, y.data(), THREADS);
    };
    const auto levels = [=, &s](const Floats& x, Floats& y) {
        return px_fused_int8_linear(isa, x.data(), ROWS, ENTRIES, ENTRIES, s.bytes.data(), OUTPUTS, &s.fused, nullptr,
                                    y.data(), THREADS);
    };
    constexpr int64_t inputs = ROWS * ENTRIES, outputs = ROWS * OUTPUTS;
    return {{"binary linear", inputs, outputs, binary},
            {"floats times signs", inputs, outputs, float_rows},
            {"rounded floats times signs", inputs, outputs, rounded},
            {"8-bit weight", inputs, outputs, levels}};
}

std::vector<Call> images(int32_t isa, const Shared& s) {
    const int64_t pixels = s.image.out_size[0] * s.image.out_size[1], outputs = pixels * s.image.out_channels;
    const auto binary = [=, &s](const Floats& x, Floats& y) {
        return px_fused_conv2d(isa, x.data(), nullptr, nullptr, &s.image, s.words.data(), &s.fused, nullptr, y.data(),
                               nullptr, THREADS);
    };
    const auto several = [=, &s](const Floats& x, Floats& y) {
        const Output output = {NEVER, 8, 1, 0, nullptr, nullptr};
        return px_binary_conv2d(isa, x.data(), &s.several, s.words.data(), &output, y.data(), THREADS);
    };
    const auto floats = [=, &s](const Floats& x, Floats& y) {
        const Affine affine = {0, nullptr, nullptr};
        return px_dynamic_int8_conv2d(isa, x.data(), &s.image, s.words.data(), &affine, y.data(), THREADS);
    };
    const auto levels = [=, &s](const Floats& x, Floats& y) {
        return px_fused_int8_conv2d(isa, x.data(), nullptr, &s.image, s.bytes.data(), &s.fused, nullptr, nullptr,
                                    y.data(), THREADS);
    };
    const int64_t inputs = s.image.image_stride;
    std::vector<Call> calls = {{"binary convolution", inputs, outputs, binary},
                               {"binary convolution of several images", 4 * inputs, 4 * outputs, several},
                               {"rounded images times signs", inputs, outputs, floats},
                               {"8-bit convolution", inputs, outputs, levels}};
    const auto fixed = [=, &s](const Floats& x, Floats& y) {
        return px_fused_float_conv2d(isa, x.data(), nullptr, &s.image, s.bytes.data(), &s.fused, nullptr, nullptr,
                                     y.data(), THREADS);
    };
    if (isa == AMX) calls.push_back({"float convolution", inputs, outputs, fixed});
    return calls;
}

std::vector<Call> others(int32_t isa, const Shared& s) {
    const auto finish = [=, &s](const Floats& x, Floats& y) {
        return px_finish(isa, x.data(), 500, CHANNELS, &s.fused, nullptr, y.data(), THREADS);
    };
    const auto quantize = [=](const Floats& x, Floats& y) {
        Floats statistics(2 * 50);
        return px_quantize(isa, 0, SIGN_SWISH, 0, 2, 40000, 800, x.data(), y.data(), statistics.data(), nullptr,
                           THREADS);
    };
    const auto attend = [=, &s](const Floats& x, Floats& y) {
        const float* const q = x.data();
        return px_attention(isa, q, q + 128, q + 256, &s.attention, y.data(), THREADS);
    };
    std::vector<Call> calls = {{"steps", 500 * CHANNELS, 500 * CHANNELS, finish},
                               {"quantizer", 40000, 40000, quantize}};
    const Attention none = {0, 1, 1, 16, 16, {}, {}, {}, 1};
    if (px_attention(isa, nullptr, nullptr, nullptr, &none, nullptr, 1) == 0) {
        calls.push_back({"attention", 100 * 3 * 128, 100 * 128, attend});
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

}  // namespace

int check_threads(int32_t isa, int& runs) {
    constexpr size_t CALLERS = 4, ROUNDS = 2;
    const Shared shared;
    std::vector<Call> calls = rows_of_signs(isa, shared);
    for (const auto& more : {images(isa, shared), others(isa, shared)}) {
        calls.insert(calls.end(), more.begin(), more.end());
    }
    std::vector<std::vector<Floats>> inputs(CALLERS), alone(CALLERS);
    for (size_t number = 0; number < CALLERS; ++number) {
        for (const Call& call : calls) {
            inputs[number].push_back(drawn(call.inputs, static_cast<unsigned>(number)));
            alone[number].push_back(call.answer(inputs[number].back()));
        }
    }
    std::atomic<int> failures{0};
    const auto caller = [&](size_t number) {
        for (size_t i = 0; i < ROUNDS * calls.size(); ++i) {
            const size_t which = (i + number / 2) % calls.size();  // the same and others are called at the same time
            if (are_same(calls[which].answer(inputs[number][which]), alone[number][which])) continue;
            ++failures;
            std::printf("isa %d: callers at once: %s\n", isa, calls[which].name);
        }
    };
    std::vector<std::thread> callers;
    for (size_t number = 0; number < CALLERS; ++number) callers.emplace_back(caller, number);
    for (std::thread& thread : callers) thread.join();
    runs += static_cast<int>(CALLERS * ROUNDS * calls.size());
    return failures;
}
