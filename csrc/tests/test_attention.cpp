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

    // Return the answer to a query of a head.
    std::vector<double> answer(int64_t batch, int64_t head, int64_t query) const {
        const auto place = [&](int64_t token) {
            return batch * shape.q_strides[0] + head * shape.q_strides[1] + token * shape.q_strides[2];
        };
        std::vector<double> y(static_cast<size_t>(shape.width));
        double total = 0;
        for (int64_t key = 0; key < shape.keys; ++key) {
            double score = 0;
            for (int64_t i = 0; i < shape.width; ++i) {
                score += static_cast<double>(q()[place(query) + i]) * static_cast<double>(k()[place(key) + i]);
            }
            const double weight = std::exp(score * static_cast<double>(shape.scale));
            total += weight;
            for (size_t i = 0; i < y.size(); ++i) {
                y[i] += weight * static_cast<double>(v()[place(key) + static_cast<int64_t>(i)]);
            }
        }
        for (double& entry : y) entry /= total;
        return y;
    }

    bool is_right(const std::vector<float>& y) const {
        const float* entry = y.data();
        for (int64_t batch = 0; batch < shape.batch; ++batch) {
            for (int64_t query = 0; query < shape.queries; ++query) {
                for (int64_t head = 0; head < shape.heads; ++head) {
                    for (double right : answer(batch, head, query)) {
                        const double found = static_cast<double>(*entry++);
                        if (std::isnan(right) ? !std::isnan(found) : !(std::abs(found - right) <= 4e-6)) return false;
                    }
                }
            }
        }
        return true;
    }
};

// Count the failures of a kernel, also with NaN in the last value and in the first query; -1 if it cannot run.
int failures_of(int32_t isa, Heads heads, int32_t threads) {
    std::vector<float> y(heads.x.size() / 3);
    const auto run = [&] {
        return px_attention(isa, heads.q(), heads.k(), heads.v(), &heads.shape, y.data(), threads);
    };
    if (run() == LACKS_INSTRUCTIONS) return -1;
    int failures = !heads.is_right(y);
    heads.x.back() = NAN;
    failures += isa == AMX ? run() != NOT_TAKEN : run() != DONE || !heads.is_right(y);
    heads.x.front() = NAN;
    return failures + (run() != NOT_TAKEN);
}

}  // namespace

int check_attention(int32_t isa, int& runs) {
    // Tokens of 16 heads of 64 are a multiple of 4096 bytes apart.
    int failures = failures_of(isa, Heads(1, 16, 20, 64), 1);
    if (failures < 0) return 0;
    for (int64_t tokens : {1, 5, 16, 17, 31, 33, 64, 100, 150}) {
        for (int64_t width : {16, 27, 40, 48, 64}) {
            if (isa == AMX && width % 16 != 0) continue;
            for (int32_t threads : {1, 3}) ++runs, failures += failures_of(isa, Heads(2, 3, tokens, width), threads);
        }
    }
    return failures;
}
