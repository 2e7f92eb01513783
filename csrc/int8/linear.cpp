// Int8 Linear of float rows. Each row is rounded by its own step.
#include <vector>

#include "epilogue/outputs_of.hpp"
#include "int8/weight_tiles.hpp"
#include "runtime/row_blocks.hpp"
#include "runtime/status.hpp"
#include "runtime/threads.hpp"

using namespace proxconnect;

namespace {

// Return the geometry of rows as a column of pixels.
Geometry of_rows(int64_t rows, int64_t entries, int64_t n) {
    Geometry g = {};
    g.channels = entries, g.out_channels = n, g.groups = 1;
    for (int i = 0; i < 2; ++i) g.kernel[i] = g.dilation[i] = g.stride[i] = g.size[i] = g.out_size[i] = 1;
    g.size[0] = g.out_size[0] = rows;
    return g;
}

bool suits_sums(const Kernels& kernels, const FloatRows& rows, const FloatOutputs& outputs) {
    const auto suits = kernels.weight_only->suits_sums;
    return suits != nullptr && outputs.then.channels == outputs.n &&
           suits(of_rows(rows.count, rows.entries, outputs.n));
}

// Rows of floats times a weight in panels of bytes or, if those are null, the outputs' binary weight.
struct Int8Product {
    const Kernels& kernels;
    FloatRows from;
    const int8_t* panels;
    FloatOutputs outputs;
    int64_t step_count = ceil_div(from.entries, STEP), width = step_count * STEP;
    Geometry geometry = of_rows(from.count, from.entries, outputs.n);
    bool looks_up = panels == nullptr && suits_sums(kernels, from, outputs);
    std::vector<Stretch> steps = {};

    // Multiply rows [begin, end).
    void run(int64_t begin, int64_t end, int32_t threads) const {
        const int64_t m = end - begin, first_block = outputs.first * PANEL / BLOCK;
        const int64_t blocks = ceil_div(least(outputs.last * PANEL, outputs.n), BLOCK) - first_block;
        const ByteRows rows = rounded(begin, m, threads);
        const int64_t at_once = panels == nullptr ? m : 128;  // signs are spread once; bytes stay in the second cache
        const int64_t busy_by_rows = least(threads, ceil_div(m, BLOCK));
        const int64_t busy_by_outputs = least(threads, ceil_div(blocks, BLOCKS));
        if (m >= 32 * threads || busy_by_rows > busy_by_outputs) {
            in_parallel(m, BLOCK, threads, [&](int64_t first, int64_t last) {
                for (int64_t row = first; row < last; row += at_once) {
                    multiply(rows, row, least(row + at_once, last), begin, first_block, first_block + blocks);
                }
            });
        } else {
            in_parallel(blocks, BLOCKS, threads, [&](int64_t first, int64_t last) {
                multiply(rows, 0, m, begin, first_block + first, first_block + last);
            });
        }
    }

  private:
    const float* row_at(int64_t r) const { return from.x + r * from.stride; }

    Quantum quantum_of_row(int64_t r) const {
        if (from.quantum != nullptr) return {from.inverse[r], from.quantum[r]};
        return quantum_of(kernels.weight_only->largest(row_at(r), from.entries));
    }

    // The result lies in memory of this thread until its next call.
    ByteRows rounded(int64_t begin, int64_t m, int32_t threads) const {
        auto* const quantum = scratch<float>(m);
        auto* const bytes = scratch<uint8_t, Int8Kernels>((m + BLOCK) * width);
        in_parallel(m, 1, threads, [&](int64_t first, int64_t last) {
            for (int64_t r = first; r < last; ++r) {
                const Quantum found = quantum_of_row(begin + r);
                quantum[r] = found.step;
                kernels.int8->round(row_at(begin + r), from.entries, found.inverse, bytes + r * width);
                std::memset(bytes + r * width + from.entries, 0, static_cast<size_t>(width - from.entries));
            }
        });
        return {bytes, m, width, steps.data(), step_count, quantum, 1};
    }

    // Multiply rows [row, end), which become outputs from `begin` + row on, with blocks [first, last).
    void multiply(const ByteRows& all, int64_t row, int64_t end, int64_t begin, int64_t first, int64_t last) const {
        if (looks_up) {
            Outputs here = outputs.then;
            here.first += outputs.row + begin;
            const BytePixels pixels = {all.x, width, width, all.quantum, 1};
            const SignOutputs weight = {outputs.panels, first * BLOCK, least(last * BLOCK, outputs.n)};
            return kernels.weight_only->look_up(pixels, geometry, row, end, weight, here);
        }
        ByteRows rows = all;
        rows.x += row * width, rows.count = end - row, rows.quantum += row;
        ByteOutputs to = {panels, first, last, outputs.n, outputs.then, outputs.channel};
        to.then.first += outputs.row + begin + row;
        if (panels != nullptr) return multiply_bytes(*kernels.int8, rows, to);
        const WeightTiles weight = {kernels, geometry, nullptr, outputs.panels};
        weight.each(first, last, step_count, [&](const int8_t* tile, int64_t block, int64_t end_block) {
            to.panels = tile, to.first = block, to.last = end_block;
            multiply_bytes(*kernels.int8, rows, to);
        });
    }
};

Status multiply(Int8Product product, int32_t threads) {
    const int64_t bytes_of_row = product.width + static_cast<int64_t>(sizeof(float));
    add_steps(0, product.from.entries, product.steps);
    in_row_blocks(product.from.count, bytes_of_row, [&](int64_t begin, int64_t end) {
        const double work = 1.0 * (end - begin) * product.outputs.n * product.from.entries;
        product.run(begin, end, threads_for(work, FLOATS_WORTH_A_THREAD, threads));
    });
    return DONE;
}

}  // namespace

bool proxconnect::suits_bytes(const Kernels& kernels, const FloatRows& rows, const FloatOutputs& outputs) {
    if (!rows.rounds || rows.count < kernels.weight_only->least_as_bytes || rows.entries > MOST_AS_BYTES) return false;
    return outputs.then.output.group == 0 || suits_sums(kernels, rows, outputs);
}

void proxconnect::multiply_as_bytes(const Kernels& kernels, const FloatRows& rows, const FloatOutputs& outputs,
                                    int32_t threads) {
    multiply({kernels, rows, nullptr, outputs}, threads);
}

void proxconnect::multiply_bytes(const Int8Kernels& kernels, const ByteRows& rows, const ByteOutputs& outputs) {
    constexpr int64_t ROWS = 48;  // whose sums stay in the first cache
    auto* const sums = scratch<int32_t>(ROWS * TILE);
    ByteRows some = rows;
    ByteOutputs tile = outputs;
    for (int64_t block = outputs.first; block < outputs.last; block += BLOCKS) {
        tile.first = block, tile.last = least(block + BLOCKS, outputs.last);
        const int8_t* const panels = outputs.panels + block * block_bytes(rows.step_count);
        for (int64_t row = 0; row < rows.count; row += ROWS) {
            some.x = rows.x + row * rows.stride, some.quantum = rows.quantum + row * rows.apart;
            some.count = least(ROWS, rows.count - row), tile.then.first = outputs.then.first + row;
            kernels.add(some, panels, tile.last - block, sums);
            kernels.finish(some, tile, sums);
        }
    }
}

int32_t px_int8_linear(int32_t isa, const float* x, int64_t m, int64_t entries, int64_t stride, const int8_t* panels,
                       int64_t n, const Fused* fused, const float* const* others, float* y, int32_t threads) {
    return status_of(isa, [&](const Kernels& kernels) {
        const Outputs then = outputs_of(*fused, n, others, y);
        return multiply({kernels, {x, m, entries, stride, true}, panels, {nullptr, 0, panels_of(n), n, then}}, threads);
    });
}
