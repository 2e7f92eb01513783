// Int8 convolutions of float images.
#include "int8/image.hpp"
#include "runtime/status.hpp"
#include "runtime/threads.hpp"

using namespace proxconnect;

int32_t px_int8_conv2d(int32_t isa, const float* x, const Geometry* geometry, const int8_t* panels,
                       const Affine* affine, float* y, int32_t threads) {
    return status_of(isa, [&](const Kernels& kernels) {
        const Geometry& g = *geometry;
        const ByteImage image{g};
        const Patches patches(image);
        const int64_t n = g.out_channels, pixels = g.out_size[0] * g.out_size[1];
        const double work = 1.0 * pixels * n * g.kernel[0] * g.kernel[1] * g.channels;
        const int32_t workers = threads_for(work, FLOATS_WORTH_A_THREAD, threads);
        for (int64_t k = 0; k < g.batch; ++k) {
            float quantum;
            const uint8_t* const bytes = rounded(kernels, image, x + k * g.image_stride, workers, quantum);
            float* const to = y + k * pixels * n;
            in_parallel(pixels, BLOCK, workers, [&](int64_t begin, int64_t end) {
                const Held held(*kernels.int8);
                patches.each(bytes, quantum, begin, end, [&](const ByteRows& rows, int64_t pixel) {
                    ByteOutputs outputs = {panels, 0, ceil_div(n, BLOCK), n, *affine, to + pixel * n, n, 1};
                    if (g.has_planes) outputs.y = to + pixel, outputs.row_stride = 1, outputs.output_stride = pixels;
                    kernels.int8->multiply(rows, outputs);
                });
            });
        }
        return DONE;
    });
}
