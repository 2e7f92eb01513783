#include "signs_amx.hpp"

#if defined(__linux__) && defined(__AMX_INT8__)

#include "byte_image.hpp"
#include "byte_tiles.hpp"
#include "inside.hpp"

namespace proxconnect {
namespace {

// Fewer rows or entries of the input do not pay for spreading the weight, or the entries that fill up a tile.
constexpr int64_t FEWEST_ROWS = 48, FEWEST_ENTRIES = 16;

// Rows of signs as bytes, `stride` apart.
void spread_rows(const uint64_t* rows, int64_t width, int64_t count, int64_t stride, int8_t* to) {
    const __m512i minus = _mm512_set1_epi8(-1), plus = _mm512_set1_epi8(1);
    for (int64_t r = 0; r < count; ++r, to += stride) {
        for (int64_t j = 0; j < width; ++j) {
            _mm512_store_si512(to + j * SPAN, _mm512_mask_blend_epi8(*rows++, minus, plus));
        }
    }
}

// Memory for rows of bytes, and for what may be read after them: a tile.
template <class Tag>
int8_t* bytes_for(int64_t count, int64_t stride) {
    return static_cast<int8_t*>(scratch<Tag>(count + TILE * stride));
}

}  // namespace

bool linear_by_amx(const uint64_t* rows, const uint8_t* nan, const uint64_t* panels, int64_t m, int64_t entries,
                   const Outputs& outputs, int64_t first, int64_t last) {
    if (m < FEWEST_ROWS || entries < FEWEST_ENTRIES || !has_amx()) return false;
    constexpr int64_t CHUNK = 256 * 1024;  // bytes, which the second cache holds
    const int64_t width = words_of(entries);
    const int64_t stride = (width | 1) * SPAN;  // odd, so that rows do not meet in the same places of the cache
    const int64_t at_once = TILES_AT_ONCE * TILE, chunk = most(CHUNK / stride / at_once, 1) * at_once;
    auto* const spans = static_cast<Span*>(scratch<Span>(width * static_cast<int64_t>(sizeof(Span))));
    int8_t* const bytes = bytes_for<int8_t>(least(chunk, m) * stride, stride);
    for (int64_t j = 0; j < width; ++j) spans[j] = {j * SPAN, j * SPAN, least(SPAN, entries - j * SPAN)};
    const SpreadWeight weight(panels, panels_of(outputs.channels), width);
    for (int64_t row = 0; row < m; row += chunk) {
        const int64_t count = least(chunk, m - row);
        spread_rows(rows + row * width, width, count, stride, bytes);
        ByteTiles({bytes, stride, count, count, count, 0, row, spans, width}, weight, outputs).multiply(first, last);
    }
    const Channels channels = {first * PANEL, least(outputs.channels, last * PANEL)};
    for (int64_t row = 0; row < m; ++row) {
        if (nan[row] != 0) put_nan(outputs, row, channels);
    }
    return true;
}

bool conv_by_amx(const PackedImage& image, const uint64_t* panels, const Geometry& g, const Outputs& outputs,
                 int64_t begin, int64_t end) {
    const bool is_enough = g.out_size[0] * g.out_size[1] >= FEWEST_ROWS && g.channels >= FEWEST_ENTRIES;
    if (g.groups > 1 || !is_enough || !has_amx()) return false;
    const int64_t first = begin / g.out_size[1], last = (end - 1) / g.out_size[1];
    const ByteImage band(image, g, first, last + 1);
    auto* const spans = static_cast<Span*>(scratch<Span>(band.span_count() * static_cast<int64_t>(sizeof(Span))));
    const int64_t pixel = band.bytes_of_pixel();
    int8_t* const bytes = bytes_for<ByteImage>(band.bytes(), pixel);
    band.fill(bytes);
    band.find_spans(spans);
    const int64_t column = begin - first * g.out_size[1], past = end - last * g.out_size[1];
    const Places of = {bytes + column * pixel, pixel, (last - first) * band.line() + past - column, band.line(),
                       g.out_size[1], column, first * g.out_size[1], spans, band.span_count()};
    const SpreadWeight weight(panels, panels_of(g.out_channels), words_of(g.kernel[0] * g.kernel[1] * g.channels));
    ByteTiles(of, weight, outputs).multiply(0, panels_of(g.out_channels));
    if (image.nan != nullptr) put_nan_pixels(image.from.x, image.nan, g, outputs, begin, end);
    return true;
}

}  // namespace proxconnect

#else

namespace proxconnect {

bool linear_by_amx(const uint64_t*, const uint8_t*, const uint64_t*, int64_t, int64_t, const Outputs&, int64_t,
                   int64_t) {
    return false;
}

bool conv_by_amx(const PackedImage&, const uint64_t*, const Geometry&, const Outputs&, int64_t, int64_t) {
    return false;
}

}  // namespace proxconnect

#endif
