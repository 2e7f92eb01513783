#include "int8/entries.hpp"

namespace proxconnect {

const Int8Kernels* int8_kernels_of(int32_t isa) {
    if (!px_supports(isa)) return nullptr;
    switch (isa) {
#if defined(__x86_64__)
        case AVX2: return &avx2_int8;
        case AVX512: return &avx512_int8;
        case AMX: return &amx_int8;
#endif
        default: return &portable_int8;
    }
}

void add_steps(int64_t at, int64_t length, std::vector<Stretch>& steps) {
    for (int64_t k = 0; k < length; k += STEP) steps.push_back({at + k, ceil_div(least(STEP, length - k), 4)});
}

uint32_t largest_in(int32_t isa, const float* x, int64_t count) {
    return weight_only_kernels_of(isa)->largest(x, count);
}

}  // namespace proxconnect
