// Rows in blocks, so that the memory for what is made of them does not grow with their number.
#pragma once

#include "runtime/sizes.hpp"

namespace proxconnect {
namespace {

#if !defined(PROXCONNECT_BLOCK_BYTES)  // tests take less, so that they meet several blocks
#define PROXCONNECT_BLOCK_BYTES (1 << 24)
#endif

// Calls work(begin, end) for blocks of rows, of which each takes `row_bytes` of memory. The last block takes the rest:
// it has the same remainder by 96 as all rows, and so meets the same kernels for few rows.
template <class Work>
void in_row_blocks(int64_t rows, int64_t row_bytes, const Work& work) {
    constexpr int64_t GRAIN = 96;
    const int64_t fitting = PROXCONNECT_BLOCK_BYTES / row_bytes;
    const int64_t block = fitting < GRAIN ? most(fitting, 1) : fitting / GRAIN * GRAIN;
    for (int64_t begin = 0, end; begin < rows; begin = end) {
        end = rows - begin < 2 * block ? rows : begin + block;
        work(begin, end);
    }
}

}  // namespace
}  // namespace proxconnect
