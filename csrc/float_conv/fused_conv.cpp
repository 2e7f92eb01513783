// Float convolutions, in one pass with means before and steps and a pool after: in fixed point with AMX, else by
// multiply-adds, as are depthwise ones.
#include <vector>

#include "epilogue/outputs_of.hpp"
#include "float_conv/depthwise_images.hpp"
#include "float_conv/digits.hpp"
#include "float_conv/floating_point.hpp"
#include "runtime/status.hpp"

using namespace proxconnect;

namespace {

struct FixedPoint {
    static constexpr int64_t GRAIN = BLOCK;

    const Kernels& kernels;
    const Geometry& g;
    const int8_t* panels;
    Geometry in_bytes = of_bytes(g, DIGITS);
    ByteImage image{in_bytes};
    Patches patches{image};
    uint8_t* bytes = nullptr;
    float quantum = 0;

    // Refuse images with a few entries much larger than the others. Floats are finer than one step there.
    bool take(const float* x, int32_t threads) {
        constexpr float WHOLE = 8355710.0f;  // and one more, by rounding, whose digits are 127
        constexpr float LEAST = 0x1p-60f, MOST = 0x1p60f;  // within which no product overflows
        constexpr double RATIO = 256;
        const Extent extent = extent_of(x, threads);
        float largest;
        std::memcpy(&largest, &extent.largest, sizeof largest);
        const double entries = static_cast<double>(g.channels * g.size[0] * g.size[1]);
        const bool is_within = largest >= LEAST && largest <= MOST && largest * entries <= RATIO * extent.sum;
        if (largest != 0 && !is_within) return false;
        quantum = largest / WHOLE;
        const float inverse = largest == 0 ? 0 : WHOLE / largest;
        bytes = scratch<uint8_t, FixedPoint>(image.readable);
        put_image(image, x, 0, threads, bytes, [&](const float* row, uint8_t* to) { put_row(row, inverse, to); });
        return true;
    }

    void run(int64_t begin, int64_t end, Outputs here) const {
        const int64_t first = here.first - begin;
        patches.each(bytes, quantum, begin, end, [&](const ByteRows& rows, int64_t pixel) {
            here.first = first + pixel;
            kernels.digits->multiply(rows, panels, here);
        });
    }

  private:
    Extent extent_of(const float* x, int32_t threads) const {
        std::vector<Extent> of_rows(static_cast<size_t>(g.size[0]));
        in_parallel(g.size[0], 1, threads, [&](int64_t begin, int64_t end) {
            for (int64_t i = begin; i < end; ++i) {
                Extent& mine = of_rows[static_cast<size_t>(i)];
                const auto add = [&](const float* from, int64_t count) { kernels.digits->extend(mine, from, count); };
                for_pieces(g, x + i * g.row_stride, add);
            }
        });
        Extent all;
        for (const Extent& row : of_rows) {
            all.largest = row.largest > all.largest ? row.largest : all.largest;
            all.sum += row.sum;
        }
        return all;
    }

    void put_row(const float* from, float inverse, uint8_t* to) const {
        if (g.pixel_stride == 1 && g.channel_stride != 1) {
            return kernels.digits->put_planes(from, g.channels, g.channel_stride, g.size[1], inverse, to);
        }
        for_pieces(g, from, [&](const float* piece, int64_t count) {
            kernels.digits->put(piece, count, inverse, to);
            to += DIGITS * count;
        });
    }
};

}  // namespace

int32_t px_float_conv2d(int32_t isa, const float* x, const Window* mean, const Geometry* geometry, const void* panels,
                        const Fused* fused, const float* const* others, const Window* pool, float* y, int32_t threads) {
    return status_of(isa, [&](const Kernels& kernels) {
        if (geometry->groups == 1 && kernels.multiply_floats == nullptr) return LACKS_INSTRUCTIONS;
        const Outputs then = outputs_of(*fused, geometry->out_channels, others, y);
        const FusedImages images = {kernels, x, mean, *geometry, then, pool, threads};
        if (geometry->groups > 1) {
            Depthwise product = {kernels, images.g, static_cast<const float*>(panels)};
            return convolve(images, product);
        }
        if (kernels.digits == nullptr) {
            FloatingPoint product = {kernels, images.g, static_cast<const float*>(panels)};
            return convolve(images, product);
        }
        FixedPoint product = {kernels, images.g, static_cast<const int8_t*>(panels)};
        return convolve(images, product);
    });
}
