// A decoder layer of a language model for one new token of each sequence.
#include <cstring>

#include "isa/kernels.hpp"
#include "runtime/scratch.hpp"
#include "runtime/sizes.hpp"
#include "runtime/status.hpp"
#include "runtime/threads.hpp"

using namespace proxconnect;

namespace {

// The intermediate rows of all sequences, one array after the other.
struct Rows {
    float *normed, *queries, *keys, *values, *attended, *hidden, *gates, *ups;

    Rows(const Decoder& d, int64_t batch) {
        const int64_t of_heads = batch * d.heads * d.head_width, of_keys = batch * d.key_heads * d.head_width;
        float* next = scratch<float, Rows>(2 * batch * d.width + 2 * of_heads + 2 * of_keys + 2 * batch * d.hidden);
        const auto take = [&](int64_t count) { return next += count, next - count; };
        normed = take(batch * d.width), hidden = take(batch * d.width);
        queries = take(of_heads), attended = take(of_heads), keys = take(of_keys), values = take(of_keys);
        gates = take(batch * d.hidden), ups = take(batch * d.hidden);
    }
};

class Layer {
  public:
    Layer(int32_t isa, const Kernels& kernels, const Decoder& decoder, int64_t batch, int32_t threads)
        : isa_(isa), token_(*kernels.token), d_(decoder), batch_(batch), threads_(threads), rows_(decoder, batch) {}

    int32_t run(const float* x, const float* cosine, const float* sine, const DecoderCache& cache, float* y) {
        norm(x, d_.input_norm);
        multiply(d_.query, rows_.normed, d_.width, rows_.queries);
        multiply(d_.key, rows_.normed, d_.width, rows_.keys);
        multiply(d_.value, rows_.normed, d_.width, rows_.values);
        for (int64_t row = 0; row < batch_; ++row) turn(row, cosine, sine, cache);
        attend(cache);
        multiply(d_.output, rows_.attended, d_.heads * d_.head_width, rows_.hidden, x);
        norm(rows_.hidden, d_.hidden_norm);
        multiply(d_.gate, rows_.normed, d_.width, rows_.gates);
        multiply(d_.up, rows_.normed, d_.width, rows_.ups);
        token_.gate(rows_.gates, rows_.ups, batch_ * d_.hidden, rows_.gates);
        multiply(d_.down, rows_.gates, d_.hidden, y, rows_.hidden);
        return status_;
    }

  private:
    void norm(const float* x, const float* weight) {
        for (int64_t row = 0; row < batch_; ++row) {
            token_.rms_norm(x + row * d_.width, weight, d_.width, d_.eps, rows_.normed + row * d_.width);
        }
    }

    // `added`, if not null, is added to the product.
    void multiply(const DecoderProduct& product, const float* x, int64_t entries, float* y,
                  const float* added = nullptr) {
        if (status_ != DONE) return;
        status_ = px_weight_only_linear(isa_, d_.rounds, x, batch_, entries, entries, product.panels, product.outputs,
                                        product.fused, &added, y, threads_);
    }

    // Norm and turn the queries and the keys of a sequence, and append its keys and values to the cache.
    void turn(int64_t row, const float* cosine, const float* sine, const DecoderCache& cache) {
        const int64_t width = d_.head_width;
        const auto turned = [&](const float* head, const float* norm, float* to) {
            if (norm != nullptr) token_.rms_norm(head, norm, width, d_.eps, to);
            token_.rotate(norm == nullptr ? head : to, cosine + row * width, sine + row * width, width, to);
        };
        for (int64_t head = row * d_.heads; head < (row + 1) * d_.heads; ++head) {
            float* const query = rows_.queries + head * width;
            turned(query, d_.query_norm, query);
        }
        for (int64_t head = 0; head < d_.key_heads; ++head) {
            const int64_t from = (row * d_.key_heads + head) * width;
            const int64_t to = row * cache.strides[0] + head * cache.strides[1] + cache.tokens * width;
            turned(rows_.keys + from, d_.key_norm, cache.keys + to);
            std::memcpy(cache.values + to, rows_.values + from, static_cast<size_t>(width) * sizeof(float));
        }
    }

    void attend(const DecoderCache& cache) {
        constexpr int64_t PRODUCTS_WORTH_A_THREAD = 1 << 18;
        const int64_t width = d_.head_width, tokens = cache.tokens + 1, sharing = d_.heads / d_.key_heads;
        const double products = 1.0 * batch_ * d_.heads * tokens * width;
        const int32_t workers = threads_for(products, PRODUCTS_WORTH_A_THREAD, threads_);
        in_parallel(batch_ * d_.key_heads, 1, workers, [&](int64_t begin, int64_t end) {
            auto* const scores = scratch<float, HeadCache>(tokens);
            for (int64_t head = begin * sharing; head < end * sharing; ++head) {
                const int64_t sequence = head / d_.heads, key_head = head % d_.heads / sharing;
                const int64_t at = sequence * cache.strides[0] + key_head * cache.strides[1];
                const uint8_t* const seen = cache.seen == nullptr ? nullptr : cache.seen + sequence * tokens;
                token_.attend(rows_.queries + head * width, {cache.keys + at, cache.values + at, tokens, seen}, width,
                              d_.scale, scores, rows_.attended + head * width);
            }
        });
    }

    const int32_t isa_;
    const TokenKernels& token_;
    const Decoder& d_;
    const int64_t batch_;
    const int32_t threads_;
    const Rows rows_;
    int32_t status_ = DONE;
};

}  // namespace

int32_t px_decoder_layer(int32_t isa, const float* x, int64_t batch, const float* cosine, const float* sine,
                         const DecoderCache* cache, const Decoder* decoder, float* y, int32_t threads) {
    return status_of(isa, [&](const Kernels& kernels) {
        return Layer(isa, kernels, *decoder, batch, threads).run(x, cosine, sine, *cache, y);
    });
}
