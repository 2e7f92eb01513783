#include "fuzz/geometries.hpp"

namespace fuzz {
namespace {

// Lay out entries in `order`, innermost first, of channel, pixel and row, with gaps between.
void lay_out(Draws& draws, Geometry& g, Lies lies) {
    const auto gap = [&] { return draws.one_of<int64_t>({0, 0, 0, 1, 5}); };
    if (draws.coin()) {  // channels last
        g.channel_stride = draws.below(4) > 0 ? 1 : 2;
        g.pixel_stride = g.channels * g.channel_stride + gap();
        const bool has_rows_apart = lies == Lies::ANYHOW || (lies == Lies::AS_GEOMETRY_SAYS && g.channel_stride == 1);
        g.row_stride = g.size[1] * g.pixel_stride + (has_rows_apart ? gap() : 0);
        g.image_stride = g.size[0] * g.row_stride + gap();
    } else {
        g.pixel_stride = draws.below(4) > 0 ? 1 : 3;
        g.row_stride = g.size[1] * g.pixel_stride + (lies == Lies::ANYHOW ? gap() : 0);
        g.channel_stride = g.size[0] * g.row_stride + gap();
        g.image_stride = g.channels * g.channel_stride + gap();
    }
}

}  // namespace

void find_out_size(Geometry& g) {
    for (int i = 0; i < 2; ++i) {
        const int64_t reach = g.dilation[i] * (g.kernel[i] - 1) + 1;
        g.out_size[i] = (g.size[i] + 2 * g.padding[i] - reach) / g.stride[i] + 1;
    }
}

Geometry geometry(Draws& draws, bool has_groups, Lies lies, int64_t products) {
    Geometry g = {};
    g.batch = draws.within(0, 3);
    g.groups = has_groups ? draws.one_of<int64_t>({1, 1, 2, 3, 20}) : 1;
    int64_t inner = draws.size(g.groups == 20 ? 9 : 140), outer = draws.size(g.groups == 20 ? 4 : 100);
    for (int i = 0; i < 2; ++i) {
        g.size[i] = draws.size(24), g.kernel[i] = draws.within(1, 4), g.stride[i] = draws.within(1, 3);
        g.padding[i] = draws.below(4), g.dilation[i] = draws.within(1, 3);
    }
    if (draws.below(4) == 0) g.kernel[0] = g.kernel[1] = 1, g.padding[0] = g.padding[1] = 0;
    int64_t fixed = taps_of(g) * g.groups * std::max<int64_t>(g.batch, 1);
    bound(draws, {&inner, &outer, &g.size[0], &g.size[1]}, std::max<int64_t>(products / fixed, 1));
    const int64_t words = draws.one_of<int64_t>({1, 1, 1, 1, 32, 64});  // with these, some kernels make tables
    inner = (inner + words - 1) / words * words;
    for (int i = 0; i < 2; ++i) {
        const int64_t reach = g.dilation[i] * (g.kernel[i] - 1) + 1;
        g.size[i] = std::max(std::max<int64_t>(g.size[i], 1), reach - 2 * g.padding[i]);
    }
    g.channels = std::max<int64_t>(inner, 1) * g.groups, g.out_channels = std::max<int64_t>(outer, 1) * g.groups;
    find_out_size(g);
    lay_out(draws, g, lies);
    return g;
}

Geometry depthwise_geometry(Draws& draws, int64_t products) {
    Geometry g = geometry(draws, false, Lies::ANYHOW, products);
    g.channels = std::max<int64_t>(g.channels, 2);
    if (draws.below(16) == 0) g.channels += 256;
    g.groups = g.out_channels = g.channels;
    lay_out(draws, g, Lies::ANYHOW);
    return g;
}

int64_t extent(const Geometry& g) {
    return g.batch == 0 ? 0 : place(g, g.batch - 1, g.size[0] * g.size[1] - 1, g.channels - 1) + 1;
}

Guarded<float> images(Draws& draws, const Geometry& g, Mood mood) {
    Guarded<float> x(extent(g), draws.coin());
    std::fill(x.begin(), x.end(), NAN);
    const int64_t pixels = g.size[0] * g.size[1];
    for (int64_t i = 0; i < g.batch * pixels * g.channels; ++i) {
        x[place(g, i / g.channels / pixels, i / g.channels % pixels, i % g.channels)] = draws.number(mood);
    }
    return x;
}

std::vector<float> without_gaps(const Geometry& g, const Guarded<float>& x) {
    const int64_t pixels = g.size[0] * g.size[1];
    std::vector<float> all;
    for (int64_t i = 0; i < g.batch * pixels * g.channels; ++i) {
        all.push_back(x[place(g, i / g.channels / pixels, i / g.channels % pixels, i % g.channels)]);
    }
    return all;
}

int64_t pixel_met(const Geometry& g, int64_t out_pixel, int64_t tap) {
    const int64_t row = out_pixel / g.out_size[1] * g.stride[0] - g.padding[0] + tap / g.kernel[1] * g.dilation[0];
    const int64_t column = out_pixel % g.out_size[1] * g.stride[1] - g.padding[1] + tap % g.kernel[1] * g.dilation[1];
    const bool is_inside = row >= 0 && row < g.size[0] && column >= 0 && column < g.size[1];
    return is_inside ? row * g.size[1] + column : -1;
}

}  // namespace fuzz
