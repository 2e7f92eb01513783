// Products of floats whose sums stay in registers.
#pragma once

#include "isa/unrolled.hpp"
#include "isa/vectors.hpp"
#include "runtime/sizes.hpp"

namespace proxconnect {
namespace {

// The factors of a product: in each step one float of every row, and adjacent columns.
struct FloatFactors {
    const float* rows;
    int64_t row_stride, row_step;
    const float* columns;
    int64_t column_step, steps;
};

template <class V, int ROWS, int COLUMNS>
using FloatSums = Floats<V>[ROWS][COLUMNS];

// Sum the products of all steps. COLUMNS counts vectors.
template <class V, int ROWS, int COLUMNS>
ALWAYS_INLINE inline void multiply(const FloatFactors& factors, FloatSums<V, ROWS, COLUMNS>& sums) {
    unrolled<ROWS * COLUMNS>([&](auto i) { sums[i / COLUMNS][i % COLUMNS] = Floats<V>{}; });
    const float *row = factors.rows, *column = factors.columns;
    for (int64_t step = 0; step < factors.steps; ++step, row += factors.row_step, column += factors.column_step) {
        Floats<V> columns[COLUMNS];
        unrolled<COLUMNS>([&](auto c) { columns[c] = loaded<Floats<V>>(column + c * V::outputs); });
        unrolled<ROWS>([&](auto r) {
            // x - 0 is x, unlike x + 0, and becomes one instruction that loads x into all lanes.
            const Floats<V> x = row[r * factors.row_stride] - Floats<V>{};
            unrolled<COLUMNS>([&](auto c) { sums[r][c] = V::fma(x, columns[c], sums[r][c]); });
        });
    }
}

// Cover `lanes` lanes, at least one vector, by parts of up to V::attention_columns whole vectors: call work(first, columns) with
// the first lane and a constant number of vectors. The last part overlaps the one before if lanes fill no vector.
template <class V, class Work>
ALWAYS_INLINE inline void in_columns(int64_t lanes, const Work& work) {
    const int64_t count = ceil_div(lanes, V::outputs), most_columns = least(V::attention_columns, lanes / V::outputs);
    for (int64_t done = 0; done < count;) {
        const int64_t columns = ceil_div(count - done, ceil_div(count - done, most_columns));
        const int64_t first = least(done * V::outputs, lanes - columns * V::outputs);
        with_constant<V::attention_columns>(columns, [&](auto count) { work(first, count); });
        done += columns;
    }
}

}  // namespace
}  // namespace proxconnect
