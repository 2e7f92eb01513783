// Images that take the steps of an epilogue and are pooled, row by row, so that what is between stays in the cache.
#include <algorithm>
#include <vector>

#include "fused.hpp"
#include "kernels.hpp"
#include "sizes.hpp"
#include "threads.hpp"

using namespace proxconnect;

namespace {

// The rows of an image after the steps, as many as a window is high, each where the row that many above it was.
class FinishedRows {
  public:
    FinishedRows(const Kernels& kernels, const float* x, const Outputs& outputs, const Window& window)
        : kernels_(kernels), x_(x), outputs_(outputs), window_(window), size_(window.size[1] * outputs.channels) {
        static thread_local std::vector<float> memory;
        memory.resize(static_cast<size_t>(window.kernel[0] * size_));
        memory_ = memory.data();
    }

    // Rows [first, last), at most a window's height of them, which ascend from call to call.
    void get(int64_t first, int64_t last, const float** rows) {
        for (int64_t row = std::max(first, done_); row < last; ++row) {
            outputs_.y = place_of(row);
            kernels_.finish(x_ + row * size_, outputs_, 0, size_);
        }
        done_ = std::max(done_, last);
        for (int64_t row = first; row < last; ++row) rows[row - first] = place_of(row);
    }

  private:
    float* place_of(int64_t row) const { return memory_ + row % window_.kernel[0] * size_; }

    const Kernels& kernels_;
    const float* const x_;
    Outputs outputs_;
    const Window& window_;
    const int64_t size_;
    float* memory_;
    int64_t done_ = 0;
};

}  // namespace

int32_t px_finish_max_pool2d(int32_t isa, const float* x, int64_t batch, int64_t channels, const Window* window,
                             const Fused* fused, float* y, int32_t threads) {
    const Kernels* kernels = kernels_of(isa);
    if (kernels == nullptr) return 1;
    const Window& w = *window;
    const Outputs outputs = outputs_of(*fused, channels, nullptr, nullptr, nullptr);
    const int64_t in_size = w.size[0] * w.size[1] * channels, out_row = w.out_size[1] * channels;
    const int64_t rows = batch * w.out_size[0];
    in_parallel(rows, 1, batch * in_size < LATENTS_WORTH_A_THREAD ? 1 : threads, [&](int64_t begin, int64_t end) {
        static thread_local std::vector<const float*> met;
        met.resize(static_cast<size_t>(w.kernel[0]));
        while (begin < end) {
            const int64_t image = begin / w.out_size[0], past = std::min(end, (image + 1) * w.out_size[0]);
            FinishedRows finished(*kernels, x + image * in_size, outputs, w);
            for (; begin < past; ++begin) {
                const int64_t top = begin % w.out_size[0] * w.stride[0] - w.padding[0];
                const int64_t first = std::max<int64_t>(top, 0), last = std::min(top + w.kernel[0], w.size[0]);
                finished.get(first, last, met.data());
                kernels->pool_row(met.data(), last - first, w.size[1], channels, w, w.out_size[1],
                                  y + begin * out_row);
            }
        }
    });
    return 0;
}
