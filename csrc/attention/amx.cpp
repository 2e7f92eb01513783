// Attention by products of bfloat16 in AMX.
#include "attention/softmax.hpp"
#include "isa/amx.hpp"
#include "runtime/scratch.hpp"

namespace proxconnect {
namespace {

// Work beside products: `at_once` calls of a weighing each time.
struct Beside {
    Weighing* weighing;
    int64_t at_once;

    void operator()() const {
        for (int64_t i = 0; i < at_once; ++i) weighing->go_on();
    }
};

// A head of keys and values, and room for two bands of queries. While the weights of one band are computed, tiles sum
// the scores of the next and the answers of the one before.
class HeadInTiles {
  public:
    explicit HeadInTiles(const Attention& shape) : shape_(shape) {
        const int64_t tile = TILE_FLOATS * static_cast<int64_t>(sizeof(float)), rows = QUERIES_AT_ONCE / TILE_ROWS;
        const int64_t scores = rows * bands_[0].across() * tile, sums = rows * v_.tiles * tile;
        const int64_t weights = bands_[0].weights.bytes();
        const int64_t factors = q_.bytes() + k_.bytes() + v_.bytes();
        auto* memory = scratch<uint8_t, HeadInTiles>(factors + 2 * (weights + scores) + sums + APART);
        const auto take = [&](int64_t bytes) {
            memory += bytes;
            return memory - bytes;
        };
        q_.memory = take(q_.bytes()), k_.memory = take(k_.bytes()), v_.memory = take(v_.bytes());
        for (Band& band : bands_) band.weights.memory = take(weights);
        take(APART);
        for (Band& band : bands_) band.scores = reinterpret_cast<float*>(take(scores));
        sums_ = reinterpret_cast<float*>(take(sums));
    }

    // Take the keys and values of a head. Return false if they are too large.
    bool take(const float* k, const float* v) {
        const int64_t width = shape_.width, stride = shape_.k_strides[2];
        __m512i largest = _mm512_setzero_si512();
        for (int64_t tile = 0; tile < k_.tiles; ++tile) {
            const int64_t first = tile * TILE_ROWS;
            k_.put_rows(tile, {k + first * stride, stride, shape_.keys - first, width}, largest);
            k_.transpose(tile);
        }
        largest_key_ = largest_of(largest);
        largest = _mm512_setzero_si512();
        v_.put_columns({v, shape_.v_strides[2], shape_.keys, width}, largest);
        return largest_of(largest) < MOST_VALUE;
    }

    // Compute the answers of bands [first, last) of the queries of a head. Tokens of y are `stride` floats apart.
    // Return false if queries are too large.
    bool attend(const float* q, int64_t first, int64_t last, float* y, int64_t stride) {
        Nothing nothing;
        if (!score(q, first, nothing)) return false;
        for (int64_t i = first; i < last; ++i) {
            Weighing weighing(bands_[i % 2], shape_.keys, shape_.scale);
            const bool has_next = i + 1 < last, has_previous = i > first;
            const int64_t chances = has_previous * calls_beside(v_) + has_next * calls_beside(k_);
            Beside beside = {&weighing, ceil_div(weighing.calls(), most(chances, 1))};
            if (has_previous) answer(i - 1, y, stride, beside);
            if (has_next && !score(q, i + 1, beside)) return false;
            while (!weighing.is_done()) weighing.go_on();
        }
        answer(last - 1, y, stride, nothing);
        return true;
    }

  private:
    template <class Work> bool score(const float* q, int64_t i, Work& beside) {
        Band& band = bands_[i % 2];
        const int64_t first = i * QUERIES_AT_ONCE, stride = shape_.q_strides[2];
        band.count = least(QUERIES_AT_ONCE, shape_.queries - first);
        __m512i largest = _mm512_setzero_si512();
        for (int64_t tile = 0; tile < band.row_tiles(); ++tile) {
            const int64_t row = tile * TILE_ROWS;
            q_.put_rows(tile, {q + (first + row) * stride, stride, band.count - row, shape_.width}, largest);
        }
        const float bound = static_cast<float>(shape_.width) * largest_key_ * largest_of(largest);
        if (!(bound * shape_.scale * LOG2_E < MOST_SCORE)) return false;
        multiply_all(band.row_tiles(), q_, k_, band.scores, band.across(), beside);
        return true;
    }

    template <class Work> void answer(int64_t i, float* y, int64_t stride, Work& beside) {
        const Band& band = bands_[i % 2];
        multiply_all(band.row_tiles(), band.weights, v_, sums_, v_.tiles, beside);
        for (int64_t row = 0; row < band.count; ++row) {
            const float* const sums = sums_ + place(row, v_.tiles);
            float* const to = y + (i * QUERIES_AT_ONCE + row) * stride;
            for (int64_t t = 0; t < v_.tiles; ++t) {
                const __m512 sum = _mm512_load_ps(sums + t * TILE_FLOATS), inverse = _mm512_set1_ps(band.inverse[row]);
                _mm512_storeu_ps(to + t * TILE_ROWS, _mm512_mul_ps(sum, inverse));
            }
        }
    }

    // Keeps a row of weights and its scores from sharing the lower bits of addresses, which would make loads wait for
    // stores.
    static constexpr int64_t APART = 512;
    static constexpr float MOST_SCORE = 1 << 20, MOST_VALUE = 1e30f;

    const Attention& shape_;
    float largest_key_ = 0;
    Parts q_{QUERIES_AT_ONCE / TILE_ROWS, ceil_div(shape_.width, 32)};
    Parts k_{ceil_div(shape_.keys, TILE_ROWS), q_.steps};
    Parts v_{shape_.width / TILE_ROWS, ceil_div(shape_.keys, 32)};
    Band bands_[2] = {Band(shape_.keys), Band(shape_.keys)};
    float* sums_;
};

bool attend(const Heads& heads, int64_t first, int64_t last) {
    HeadInTiles room(heads.shape);
    const ConfiguredTiles configured;
    return each_head(heads, first, last, [&](const Head& head, int64_t begin, int64_t end) {
        return room.take(head.k, head.v) && room.attend(head.q, begin, end, head.y, head.y_stride);
    });
}

}  // namespace

const AttentionKernel amx_attention = {QUERIES_AT_ONCE, attend};

}  // namespace proxconnect
