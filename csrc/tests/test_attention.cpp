// Attention against sums of doubles.
#include <cmath>
#include <random>
#include <vector>

#include "proxconnect.h"

namespace {

// Queries, keys and values in one array, (batch, tokens, 3, heads, width), which ends with the last value.
struct Heads {
    Attention shape;
    std::vector<float> x;

    Heads(int64_t batch, int64_t heads, int64_t tokens, int64_t width) {
        const int64_t token = 3 * heads * width;
        shape = {batch, heads, tokens, tokens, width, {}, {}, {}, 0.2f};
        for (int64_t* strides : {shape.q_strides, shape.k_strides, shape.v_strides}) {
            strides[0] = tokens * token, strides[1] = width, strides[2] = token;
        }
        std::mt19937 random(static_cast<unsigned>(tokens + width));
        std::normal_distribution<float> normal;
        x.resize(static_cast<size_t>(batch * tokens * token));
        for (float& entry : x) entry = normal(random);
    }

    const float* q() const { return x.data(); }
    const float* k() const { return q() + shape.heads * shape.width; }
    const float* v() const { return k() + shape.heads * shape.width; }

    // Add the answer to a query of a head to `answers`.
    void answer(int64_t batch, int64_t head, int64_t query, std::vector<double>& answers) const {
        const auto place = [&](int64_t token) {
            return batch * shape.q_strides[0] + head * shape.q_strides[1] + token * shape.q_strides[2];
        };
        const float* const asked = q() + place(query);
        std::vector<double> y(static_cast<size_t>(shape.width));
        double total = 0;
        for (int64_t key = 0; key < shape.keys; ++key) {
            const float *const met = k() + place(key), *const value = v() + place(key);
            double score = 0;
            for (size_t i = 0; i < y.size(); ++i) score += static_cast<double>(asked[i]) * static_cast<double>(met[i]);
            const double weight = std::exp(score * static_cast<double>(shape.scale));
            total += weight;
            for (size_t i = 0; i < y.size(); ++i) y[i] += weight * static_cast<double>(value[i]);
        }
        for (const double entry : y) answers.push_back(entry / total);
    }

    std::vector<double> answers() const {
        std::vector<double> answers;
        for (int64_t batch = 0; batch < shape.batch; ++batch) {
            for (int64_t query = 0; query < shape.queries; ++query) {
                for (int64_t head = 0; head < shape.heads; ++head) answer(batch, head, query, answers);
            }
        }
        return answers;
    }
};

bool is_right(const std::vector<float>& y, const std::vector<double>& answers) {
    for (size_t i = 0; i < y.size(); ++i) {
        const double right = answers[i], found = static_cast<double>(y[i]);
        if (std::isnan(right) ? !std::isnan(found) : !(std::abs(found - right) <= 4e-6)) return false;
    }
    return true;
}

// Count the failures of a kernel with one thread and with three, also with NaN in the last value and in the first
// query; -1 if it cannot run.
int failures_of(int32_t isa, Heads heads) {
    constexpr int32_t THREADS[] = {1, 3};
    std::vector<float> y(heads.x.size() / 3);
    const auto run = [&](int32_t threads) {
        y.assign(y.size(), 12345.0f);
        return px_attention(isa, heads.q(), heads.k(), heads.v(), &heads.shape, y.data(), threads);
    };
    if (run(1) == LACKS_INSTRUCTIONS) return -1;
    int failures = 0;
    std::vector<double> answers = heads.answers();
    for (const int32_t threads : THREADS) failures += run(threads) != DONE || !is_right(y, answers);
    heads.x.back() = NAN;
    answers = heads.answers();
    for (const int32_t threads : THREADS) {
        failures += isa == AMX ? run(threads) != NOT_TAKEN : run(threads) != DONE || !is_right(y, answers);
    }
    heads.x.front() = NAN;
    for (const int32_t threads : THREADS) failures += run(threads) != NOT_TAKEN;
    return failures;
}

}  // namespace

int check_attention(int32_t isa, int& runs) {
    // Tokens of 16 heads of 64 are a multiple of 4096 bytes apart.
    int failures = failures_of(isa, Heads(1, 16, 20, 64));
    if (failures < 0) return 0;
    for (int64_t tokens : {1, 5, 16, 17, 31, 33, 64, 100, 150}) {
        for (int64_t width : {16, 27, 40, 48, 64}) {
            if (isa == AMX && width % 16 != 0) continue;
            ++runs, failures += failures_of(isa, Heads(2, 3, tokens, width));
        }
    }
    return failures;
}
