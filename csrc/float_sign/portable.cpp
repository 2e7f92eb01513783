// Any machine, NEON included: vectors of 16 bytes.
#include "float_sign/row_tables.hpp"

namespace proxconnect {
namespace {

struct Sixteen {
    typedef float Floats __attribute__((vector_size(16), may_alias));
    typedef uint16_t Halves __attribute__((vector_size(16), may_alias));
};

void multiply(const FloatRows& rows, const FloatOutputs& outputs) {
    multiply_by_row_tables<Sixteen>(with_quanta(rows), outputs);
    take_steps(portable_kernels, rows.count, outputs);
}

}  // namespace

const WeightOnlyKernels portable_weight_only = {multiply, largest};
#if defined(__aarch64__)
const WeightOnlyKernels rounded_as_bytes = {multiply, largest, nullptr, 1};
#endif

}  // namespace proxconnect
