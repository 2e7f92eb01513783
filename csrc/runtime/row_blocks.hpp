// Rows in blocks, so that memory does not grow with the number of rows.
#pragma once

#include "runtime/sizes.hpp"

namespace proxconnect {
namespace {

#if !defined(PROXCONNECT_BLOCK_BYTES)  // tests take less, so that they meet several blocks
#define PROXCONNECT_BLOCK_BYTES (1 << 24)
#endif

// Call work(begin, end) for blocks of rows that take `row_bytes` of memory each. The last block takes the rest: its
// size has the same remainder by 96 as the number of rows, so that the same kernels handle the last few rows.
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
