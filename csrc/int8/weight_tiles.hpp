// The weight of an int8 product, a tile of outputs at a time.
#pragma once

#include "int8/steps.hpp"
#include "runtime/scratch.hpp"

namespace proxconnect {
namespace {

// Panels of bytes, or a binary weight, of which a tile of outputs becomes such panels shortly before it meets all rows.
struct WeightTiles {
    const Kernels& kernels;
    const Geometry& g;
    const int8_t* panels;
    const uint64_t* signs;  // if `panels` is null

    // Call work(panels, block, end) for blocks [block, end) of each tile of blocks [first, last) of a weight of `steps`
    // steps. Only these blocks are in `panels`.
    template <class Work>
    void each(int64_t first, int64_t last, int64_t steps, const Work& work) const {
        const int64_t size = block_bytes(steps), spread = panels == nullptr ? least(BLOCKS, last - first) * size : 0;
        auto* const tile = scratch<int8_t, WeightTiles>(spread);
        for (int64_t block = first, end; block < last; block = end) {
            end = least(block + BLOCKS, last);
            if (panels != nullptr) {
                work(panels, block, end);
                continue;
            }
            kernels.spread_signs(signs, g, block, end, tile);
            work(tile - block * size, block, end);
        }
    }
};

}  // namespace
}  // namespace proxconnect
