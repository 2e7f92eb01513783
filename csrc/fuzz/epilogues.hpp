// Draw accumulators, scales, steps and signs, and compute what they make of one number.
#pragma once

#include <vector>

#include "fuzz/entries.hpp"

namespace fuzz {

constexpr int64_t BEYOND = 80;  // entries after those of all channels, as proxconnect.h asks for

// Return the value of an accumulator after a sum, before a cyclic one falls.
int64_t held_integer(int64_t sum, const Output& output);
float held(int64_t sum, const Output& output);

Output accumulator(Draws& draws);

// A scale and a bias in any form that proxconnect.h allows.
class Scaling {
  public:
    Scaling(Draws& draws, int64_t channels);

    // Return an epilogue without steps after an accumulator.
    Fused fused(Output output = {NEVER, 8, 1.0f, 0, nullptr, nullptr}) const {
        output.scales = scales_, output.scale = scales_ == 0 ? nullptr : scale_.data();
        output.bias = has_bias_ ? bias_.data() : nullptr;
        return {output, 0, nullptr, nullptr};
    }

    float scale(int64_t channel) const { return scales_ == 0 ? 1.0f : scale_[scales_ == 1 ? 0 : channel]; }
    float bias(int64_t channel) const { return has_bias_ ? bias_[channel] : -0.0f; }
    float of(float sum, int64_t channel) const {
        const float product = sum * scale(channel);
        return product + bias(channel);
    }

  private:
    int64_t scales_;
    bool has_bias_;
    Guarded<float> scale_, bias_;
};

// An epilogue: `rows` rows of `channels` outputs take steps.
class Epilogue {
  public:
    Epilogue(Draws& draws, int64_t rows, int64_t channels, bool may_add);

    Fused fused() const;
    const float* const* others() const { return others_at_.empty() ? nullptr : others_at_.data(); }

    // Return the output for a sum, or for a number that only takes the steps, at place `at` of the outputs.
    float of(float sum, int64_t channel, int64_t at) const;
    float stepped(float value, int64_t channel, int64_t at) const;

    // Return the largest error after the steps of a number at most `most` with the error `error` before.
    double error_after(double error, double most, int64_t channel, int64_t at) const;

    const Scaling scaling;
    Output output = {NEVER, 8, 1.0f, 0, nullptr, nullptr};

  private:
    void add_step(Draws& draws, int64_t rows, int64_t kinds);
    const float* vector(Draws& draws);

    int64_t channels_;
    std::vector<Guarded<float>> vectors_, others_;
    std::vector<const float*> others_at_;
    std::vector<Step> steps_;
};

// Intervals of sums, as signs.
class Intervals {
  public:
    Intervals(Draws& draws, int64_t channels);

    Signs signs() const { return {count_, low_.data(), width_.data()}; }
    uint64_t bit(int64_t held_sum, int64_t channel) const;

  private:
    int64_t count_, channels_;
    Guarded<int32_t> low_;
    Guarded<uint32_t> width_;
};

// Draw windows over images of `size`. Without a border they may end outside the image, with one they may begin there.
Window window(Draws& draws, const int64_t* size, bool has_border);

// Call work(row, column) for the pixels of an image inside a window.
template <class Work> void for_met(const Window& w, int64_t out_row, int64_t out_column, const Work& work) {
    const int64_t top = out_row * w.stride[0] - w.padding[0], left = out_column * w.stride[1] - w.padding[1];
    for (int64_t y = std::max<int64_t>(top, 0); y < std::min(top + w.kernel[0], w.size[0]); ++y) {
        for (int64_t x = std::max<int64_t>(left, 0); x < std::min(left + w.kernel[1], w.size[1]); ++x) work(y, x);
    }
}

// Return a convolution of the means of windows over the images of `g`, with a border where it needs one.
Geometry of_means(const Geometry& g, const Window& w);

// Return the means of windows over images (batch, height, width, channels).
std::vector<float> means(const Geometry& g, const Window& w, const std::vector<float>& x);

// Return the largest under each window of images (batch, height, width, channels), or NaN if one is.
std::vector<float> pooled(const Window& w, int64_t batch, int64_t channels, const std::vector<float>& x);

}  // namespace fuzz
