// A band of an image as bytes of ±1, with whole spans for each pixel. Neighbouring output pixels read bytes at one
// distance, even if strides are not 1: pixels of every stride-th row and column have their own plane.
#pragma once

#include "binary/byte_signs.hpp"

namespace proxconnect {
namespace {

class SignImage {
  public:
    // The rows of the image that `rows` output rows from `first` on read, with the border.
    SignImage(const PackedImage& image, const Geometry& g, int64_t first, int64_t rows)
        : image_(image), g_(g), top_(first * g.stride[0] - g.padding[0]) {
        rows_ = (rows - 1) * g.stride[0] + (g.kernel[0] - 1) * g.dilation[0] + 1;
        columns_ = g.size[1] + 2 * g.padding[1];
        pixel_ = words_of(g.channels) * SPAN;
        line_ = ceil_div(columns_, g.stride[1]);
        plane_ = ceil_div(rows_, g.stride[0]) * line_ * pixel_;
    }

    // Return the number of pixels from output row to output row.
    int64_t line() const { return line_; }
    int64_t bytes_of_pixel() const { return pixel_; }
    int64_t bytes() const { return g_.stride[0] * g_.stride[1] * plane_; }

    void fill(int8_t* bytes) const {
        for (int64_t row = 0; row < rows_; ++row) {
            const int64_t y = top_ + row;
            const bool is_inside = y >= 0 && y < g_.size[0];
            const uint64_t* const words = image_.rows + (is_inside ? y : g_.size[0]) * image_.width;
            fill_row(is_inside || g_.border != 0 ? words : nullptr, bytes + place_of_row(row));
        }
    }

    int64_t span_count() const { return g_.kernel[0] * g_.kernel[1] * words_of(g_.channels); }

    // Write the spans of a patch.
    void find_spans(Span* spans) const {
        int64_t bit = 0;
        for (int64_t i = 0; i < g_.kernel[0]; ++i) {
            for (int64_t j = 0; j < g_.kernel[1]; ++j, bit += g_.channels) {
                const int64_t at = place_of_row(i * g_.dilation[0]) + place_of_column(j * g_.dilation[1]);
                for (int64_t k = 0; k < g_.channels; k += SPAN) {
                    *spans++ = {at + k, bit + k, least(SPAN, g_.channels - k)};
                }
            }
        }
    }

  private:
    int64_t place_of_row(int64_t row) const {
        const int64_t stride = g_.stride[0];
        return row % stride * g_.stride[1] * plane_ + row / stride * line_ * pixel_;
    }

    int64_t place_of_column(int64_t column) const {
        const int64_t stride = g_.stride[1];
        return column % stride * plane_ + column / stride * pixel_;
    }

    // Fill a row with the bytes of its pixels, or with 0 if `words` is null.
    void fill_row(const uint64_t* words, int8_t* to) const {
        const int64_t pad = g_.border == 0 ? g_.padding[1] : 0;  // else the border is in the words
        const int64_t first = words == nullptr ? columns_ : pad, last = words == nullptr ? columns_ : columns_ - pad;
        if (g_.stride[1] == 1 && pixel_ == g_.channels) {
            clear(first, to);
            spread_bits(words, first * pixel_, (last - first) * pixel_, to + first * pixel_);
            return clear(columns_ - last, to + last * pixel_);
        }
        for (int64_t phase = 0; phase < g_.stride[1]; ++phase, to += plane_) {
            int8_t* pixel = to;
            for (int64_t column = phase; column < columns_; column += g_.stride[1], pixel += pixel_) {
                const bool is_inside = column >= first && column < last;
                is_inside ? spread_bits(words, column * g_.channels, g_.channels, pixel) : clear(1, pixel);
            }
        }
    }

    void clear(int64_t pixels, int8_t* to) const { std::memset(to, 0, static_cast<size_t>(pixels * pixel_)); }

    const PackedImage& image_;
    const Geometry& g_;
    const int64_t top_;
    int64_t rows_, columns_, pixel_, line_, plane_;
};

}  // namespace
}  // namespace proxconnect
