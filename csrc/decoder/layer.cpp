// A decoder layer of a language model for one new token of each sequence.
#include <cstring>
#include <initializer_list>

#include "epilogue/outputs_of.hpp"
#include "float_sign/kernels.hpp"
#include "runtime/phases.hpp"
#include "runtime/status.hpp"
#include "runtime/threads.hpp"

using namespace proxconnect;

namespace {

// The rows between the phases, of all sequences, one array after the other.
struct Rows {
    float *queries, *keys, *values, *attended, *hidden, *gates, *ups;

    Rows(const Decoder& d, int64_t batch) {
        const int64_t of_heads = batch * d.heads * d.head_width, of_keys = batch * d.key_heads * d.head_width;
        float* next = scratch<float, Rows>(2 * of_heads + 2 * of_keys + batch * (d.width + 2 * d.hidden));
        const auto take = [&](int64_t count) { return next += count, next - count; };
        queries = take(of_heads), attended = take(of_heads), keys = take(of_keys), values = take(of_keys);
        hidden = take(batch * d.width), gates = take(batch * d.hidden), ups = take(batch * d.hidden);
    }
};

// A product, to whose outputs `added` is added if it is not null.
struct Product {
    const DecoderProduct& weight;
    float* y;
    const float* added = nullptr;
};

// Threads share the heads, and the outputs of products in columns.
class Layer {
  public:
    Layer(const Kernels& kernels, const Decoder& decoder, const DecoderCache& cache, int64_t batch, int32_t threads)
        : kernels_(kernels), token_(*kernels.token), d_(decoder), cache_(cache), batch_(batch),
          parts_(parts_for(threads)), rows_(decoder, batch) {}

    Status run(const float* x, const float* cosine, const float* sine, float* y) {
        in_parts(parts_, parts_, [&](int64_t) {
            phases_.share(0, parts_, [&](int64_t part) {
                multiply(part, normed(x, d_.input_norm), d_.width,
                         {{d_.query, rows_.queries}, {d_.key, rows_.keys}, {d_.value, rows_.values}});
            });
            phases_.share(1, batch_ * d_.key_heads, [&](int64_t head) {
                turn(head, cosine, sine);
                attend(head);
            });
            phases_.share(2, parts_, [&](int64_t part) {
                multiply(part, rows_.attended, d_.heads * d_.head_width, {{d_.output, rows_.hidden, x}});
            });
            phases_.share(3, parts_, [&](int64_t part) { open(part); });
            phases_.share(4, parts_, [&](int64_t part) {
                multiply(part, rows_.gates, d_.hidden, {{d_.down, y, rows_.hidden}});
            });
            phases_.require_success();
        });
        return DONE;
    }

  private:
    static constexpr int64_t COLUMN = 8 * PANEL;  // outputs

    int32_t parts_for(int32_t threads) const {
        constexpr int64_t WORTH_A_THREAD = 1 << 19;  // multiplications
        const int64_t of_heads = d_.heads * d_.head_width, of_keys = d_.key_heads * d_.head_width;
        const double weights = 1.0 * d_.width * (2 * of_heads + 2 * of_keys + 3 * d_.hidden);
        const double attention = 2.0 * of_heads * (cache_.tokens + 1);
        return threads_for(batch_ * (weights + attention), WORTH_A_THREAD, most(threads, 1));
    }

    // Return the normed rows, in memory of this thread.
    const float* normed(const float* x, const float* weight) const {
        auto* const y = scratch<float, Layer>(batch_ * d_.width);
        for (int64_t row = 0; row < batch_; ++row) {
            token_.rms_norm(x + row * d_.width, weight, d_.width, d_.eps, y + row * d_.width);
        }
        return y;
    }

    // Multiply the rows by a part of the columns of all products.
    void multiply(int64_t part, const float* x, int64_t entries, std::initializer_list<Product> products) const {
        int64_t all = 0, begin = 0;
        for (const Product& product : products) all += ceil_div(product.weight.outputs, COLUMN);
        const int64_t first = all * part / parts_, last = all * (part + 1) / parts_;
        for (const Product& product : products) {
            const int64_t columns = ceil_div(product.weight.outputs, COLUMN);
            multiply(product, x, entries, most(first - begin, 0), least(last - begin, columns));
            begin += columns;
        }
    }

    // Multiply the rows by columns [first, last) of a product.
    void multiply(const Product& product, const float* x, int64_t entries, int64_t first, int64_t last) const {
        if (first >= last) return;
        const int64_t n = product.weight.outputs, past = least(last * COLUMN / PANEL, panels_of(n));
        const Outputs then = outputs_of(*product.weight.fused, n, &product.added, product.y);
        const FloatRows rows = {x, batch_, entries, entries, d_.rounds != 0};
        multiply_by_signs(kernels_, rows, {product.weight.panels, first * COLUMN / PANEL, past, n, then}, 1);
    }

    // Norm the hidden rows, and make a part of the columns of silu(gate) · up.
    void open(int64_t part) const {
        const float* const x = normed(rows_.hidden, d_.hidden_norm);
        multiply(part, x, d_.width, {{d_.gate, rows_.gates}});
        multiply(part, x, d_.width, {{d_.up, rows_.ups}});
        const int64_t columns = ceil_div(d_.hidden, COLUMN), first = columns * part / parts_ * COLUMN;
        const int64_t last = least(columns * (part + 1) / parts_ * COLUMN, d_.hidden);
        for (int64_t row = 0; row < batch_; ++row) {
            float* const gates = rows_.gates + row * d_.hidden + first;
            token_.gate(gates, rows_.ups + row * d_.hidden + first, last - first, gates);
        }
    }

    // Norm and turn a key of a sequence and the queries that ask for it, and append key and value to the cache.
    void turn(int64_t of_all, const float* cosine, const float* sine) const {
        const int64_t width = d_.head_width, row = of_all / d_.key_heads, at = place(of_all) + cache_.tokens * width;
        const auto turned = [&](const float* head, const float* norm, float* to) {
            if (norm != nullptr) token_.rms_norm(head, norm, width, d_.eps, to);
            token_.rotate(norm == nullptr ? head : to, cosine + row * width, sine + row * width, width, to);
        };
        for (int64_t head = of_all * sharing(); head < (of_all + 1) * sharing(); ++head) {
            float* const query = rows_.queries + head * width;
            turned(query, d_.query_norm, query);
        }
        turned(rows_.keys + of_all * width, d_.key_norm, cache_.keys + at);
        std::memcpy(cache_.values + at, rows_.values + of_all * width, static_cast<size_t>(width) * sizeof(float));
    }

    // Attend with the queries that ask for a key of a sequence.
    void attend(int64_t of_all) const {
        const int64_t width = d_.head_width, tokens = cache_.tokens + 1, at = place(of_all);
        const uint8_t* const seen = cache_.seen == nullptr ? nullptr : cache_.seen + of_all / d_.key_heads * tokens;
        auto* const scores = scratch<float, HeadCache>(tokens);
        for (int64_t head = of_all * sharing(); head < (of_all + 1) * sharing(); ++head) {
            token_.attend(rows_.queries + head * width, {cache_.keys + at, cache_.values + at, tokens, seen}, width,
                          d_.scale, scores, rows_.attended + head * width);
        }
    }

    int64_t sharing() const { return d_.heads / d_.key_heads; }

    // Return where a head of the keys of a sequence begins in the cache.
    int64_t place(int64_t of_all) const {
        return of_all / d_.key_heads * cache_.strides[0] + of_all % d_.key_heads * cache_.strides[1];
    }

    const Kernels& kernels_;
    const TokenKernels& token_;
    const Decoder& d_;
    const DecoderCache& cache_;
    const int64_t batch_;
    const int32_t parts_;
    const Rows rows_;
    Phases<5> phases_;
};

}  // namespace

int32_t px_decoder_layer(int32_t isa, const float* x, int64_t batch, const float* cosine, const float* sine,
                         const DecoderCache* cache, const Decoder* decoder, float* y, int32_t threads) {
    return status_of(isa, [&](const Kernels& kernels) {
        return batch == 0 ? DONE : Layer(kernels, *decoder, *cache, batch, threads).run(x, cosine, sine, y);
    });
}
