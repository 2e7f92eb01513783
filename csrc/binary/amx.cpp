// Products of signs by AMX, as bytes of ±1. AVX-512 computes products that are too small for tiles.
#include "binary/byte_image.hpp"
#include "binary/tap_range.hpp"
#include "binary/tile_products.hpp"

namespace proxconnect {
namespace {

// Tiles do not pay for few rows, because the weight must be spread, nor for few entries or outputs, because tiles must
// be filled.
bool is_worth_it(int64_t rows, int64_t entries, int64_t outputs) {
    return rows >= 48 && entries >= 16 && outputs > PANEL;
}

// Rows of signs, in bands whose bytes fit the second cache.
class BandsOfRows {
  public:
    explicit BandsOfRows(const SignRows& rows)
        : rows_(rows.words), count_(rows.count), width_(words_of(rows.entries)) {
        bytes_ = scratch<int8_t, BandsOfRows>((least(band_, count_) + TILE_ROWS) * stride_);  // a tile more may be read
    }

    int64_t count() const { return ceil_div(count_, band_); }

    Places bytes_of(int64_t band) const {
        const int64_t first = band * band_, count = least(band_, count_ - first);
        const uint64_t* words = rows_ + first * width_;
        for (int64_t r = 0; r < count; ++r) {
            int8_t* const to = bytes_ + r * stride_;
            for (int64_t j = 0; j < width_; ++j) spread_word(*words++, to + j * SPAN);
        }
        return {bytes_, stride_, count, count, count, 0, first};
    }

  private:
    static constexpr int64_t BYTES = 256 * 1024, AT_ONCE = TILES_AT_ONCE * TILE_ROWS;

    const uint64_t* const rows_;
    const int64_t count_, width_;
    const int64_t stride_ = (width_ | 1) * SPAN;  // odd, so that rows do not meet in the same places of the cache
    const int64_t band_ = most(BYTES / stride_ / AT_ONCE, 1) * AT_ONCE;
    int8_t* bytes_;
};

// Output pixels [begin, end) of an image, in bands of whole rows.
class BandsOfImage {
  public:
    BandsOfImage(const PackedImage& image, const Geometry& g, int64_t begin, int64_t end)
        : image_(image), g_(g), begin_(begin), end_(end) {
        const SignImage largest = band_at(begin / g.out_size[1]);
        bytes_ = scratch<int8_t, BandsOfImage>(largest.bytes() + TILE_ROWS * largest.bytes_of_pixel());
    }

    int64_t count() const { return ceil_div(all_rows_, rows_); }

    Places bytes_of(int64_t band) const {
        const int64_t width = g_.out_size[1], first = begin_ / width + band * rows_;
        const SignImage bytes = band_at(first);
        bytes.fill(bytes_);
        const int64_t begin = most(begin_, first * width), end = least(end_, (first + rows_) * width);
        const int64_t column = begin - first * width, last = (end - 1) / width;
        const int64_t places = (last - first) * bytes.line() + end - last * width - column;
        const int64_t stride = bytes.bytes_of_pixel();
        return {bytes_ + column * stride, stride, places, bytes.line(), width, column, first * width};
    }

    // Return the first band. All bands have the same spans.
    SignImage first() const { return band_at(begin_ / g_.out_size[1]); }

  private:
    static constexpr int64_t PIXELS = 512;

    SignImage band_at(int64_t row) const { return {image_, g_, row, rows_}; }

    const PackedImage& image_;
    const Geometry& g_;
    const int64_t begin_, end_;
    const int64_t all_rows_ = ceil_div(end_, g_.out_size[1]) - begin_ / g_.out_size[1];
    const int64_t rows_ = ceil_div(all_rows_, ceil_div(all_rows_ * g_.out_size[1], PIXELS));
    int8_t* bytes_;
};

}  // namespace

void linear_by_amx(const SignRows& rows, const uint64_t* panels, const Outputs& outputs, int64_t first, int64_t last) {
    if (!is_worth_it(rows.count, rows.entries, outputs.channels)) {
        return avx512_kernels.binary_linear(rows, panels, outputs, first, last);
    }
    const int64_t width = words_of(rows.entries);
    Span* const spans = scratch<Span>(width);
    for (int64_t j = 0; j < width; ++j) spans[j] = {j * SPAN, j * SPAN, least(SPAN, rows.entries - j * SPAN)};
    const BandsOfRows bands(rows);
    const SpreadWeight weight(panels, panels_of(outputs.channels), width);
    SignProducts<BandsOfRows>(bands, {spans, width}, weight, outputs).multiply(first, last);
    const Channels channels = {first * PANEL, least(outputs.channels, last * PANEL)};
    for (int64_t row = 0; row < rows.count; ++row) {
        if (rows.nan[row] != 0) put_nan(outputs, row, channels);
    }
}

void conv_by_amx(const PackedImage& image, const uint64_t* panels, const Geometry& g, const Outputs& outputs,
                 const Scratch& scratch, int64_t begin, int64_t end) {
    if (g.groups > 1 || !is_worth_it(end - begin, g.channels, g.out_channels)) {
        return avx512_kernels.binary_conv(image, panels, g, outputs, scratch, begin, end);
    }
    const BandsOfImage bands(image, g, begin, end);
    const SignImage first = bands.first();
    Span* const spans = proxconnect::scratch<Span>(first.span_count());
    first.find_spans(spans);
    const int64_t count = panels_of(g.out_channels), width = words_of(g.kernel[0] * g.kernel[1] * g.channels);
    const SpreadWeight weight(panels, count, width);
    SignProducts<BandsOfImage>(bands, {spans, first.span_count()}, weight, outputs).multiply(0, count);
    if (image.nan != nullptr) put_nan_pixels(image.from.x, image.nan, g, outputs, begin, end);
}

}  // namespace proxconnect
