// The kernels that this machine can run.
#include "isa/amx.hpp"
#include "isa/kernels.hpp"

#if defined(__x86_64__)
#include <cpuid.h>
#endif

#if defined(PROXCONNECT_DOT_PRODUCTS) && defined(__linux__)
#include <sys/auxv.h>
#endif

namespace proxconnect {
namespace {

#if defined(__x86_64__)
// Clang 14 does not know F16C by name. Virtual machines take microseconds for CPUID, so it runs once.
bool has_f16c() {
    static const bool found = [] {
        uint32_t eax, ebx, ecx, edx;
        return __get_cpuid(1, &eax, &ebx, &ecx, &edx) != 0 && (ecx & bit_F16C) != 0;
    }();
    return found;
}

bool has_avx2() {
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi2") && __builtin_cpu_supports("fma") &&
           __builtin_cpu_supports("popcnt") && has_f16c();
}

#if !defined(PROXCONNECT_WITHOUT_AVX512)
bool has_avx512_vnni() {
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("bmi2");
}

bool has_avx512() {
    return has_avx512_vnni() && __builtin_cpu_supports("avx512vpopcntdq") && __builtin_cpu_supports("avx512bitalg") &&
           __builtin_cpu_supports("avx512vbmi");
}
#endif
#elif defined(PROXCONNECT_DOT_PRODUCTS) && defined(__linux__)
bool has_dot_products() { return (getauxval(AT_HWCAP) & HWCAP_ASIMDDP) != 0; }
#elif defined(PROXCONNECT_DOT_PRODUCTS)
bool has_dot_products() { return true; }  // every Mac of ARM
#endif

}  // namespace

const Kernels* kernels_of(int32_t isa) {
    switch (isa) {
        case PORTABLE: return &portable_kernels;
#if defined(__x86_64__)
        case AVX2: return has_avx2() ? &avx2_kernels : nullptr;
#if !defined(PROXCONNECT_WITHOUT_AVX512)
        case AVX512_VNNI: return has_avx512_vnni() ? &avx512_vnni_kernels : nullptr;
        case AVX512: return has_avx512() ? &avx512_kernels : nullptr;
#if defined(PROXCONNECT_TILES)
        case AMX: return has_avx512() && has_amx() ? amx_kernels() : nullptr;
#endif
#endif
#elif defined(__aarch64__)
#if defined(PROXCONNECT_DOT_PRODUCTS)
        case NEON: return has_dot_products() ? &dot_product_kernels : &neon_kernels;
#else
        case NEON: return &neon_kernels;
#endif
#endif
        default: return nullptr;
    }
}

}  // namespace proxconnect

int32_t px_supports(int32_t isa) { return proxconnect::kernels_of(isa) != nullptr; }
