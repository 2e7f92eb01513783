// Arithmetic of sizes. A binary weight is stored in words of 64 entries, and in panels of eight rows that are stored
// together word by word. In an unnamed namespace, unlike std::min, so that each instruction set keeps its own copy.
#pragma once

#include <cstdint>

namespace proxconnect {
namespace {

constexpr int64_t PANEL = 8;
constexpr int64_t BEYOND = 80;  // entries after those of all channels, for whole vectors

constexpr int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
constexpr int64_t most(int64_t a, int64_t b) { return a > b ? a : b; }
constexpr int64_t ceil_div(int64_t count, int64_t part) { return (count + part - 1) / part; }
constexpr int64_t words_of(int64_t entries) { return ceil_div(entries, 64); }
constexpr int64_t panels_of(int64_t rows) { return ceil_div(rows, PANEL); }

}  // namespace
}  // namespace proxconnect
