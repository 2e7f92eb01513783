// Vectors of 16 bytes, which every machine has or GCC and Clang make of what there is; NEON's too.
#include "row_tables.hpp"

namespace proxconnect {
namespace {

struct Sixteen {
    typedef float Floats __attribute__((vector_size(16), may_alias));
    typedef uint16_t Halves __attribute__((vector_size(16), may_alias));
};

void multiply(const FloatRows& rows, const Outputs& outputs) {
    rows.quantum == nullptr ? multiply_by_row_tables<Exact<Sixteen>>(rows, outputs)
                            : multiply_by_row_tables<Rounded<Sixteen>>(rows, outputs);
}

}  // namespace

const WeightOnlyKernels portable_weight_only = {multiply, largest};

}  // namespace proxconnect
