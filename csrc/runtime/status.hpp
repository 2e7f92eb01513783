// The C interface returns statuses and throws nothing.
#pragma once

#include "isa/kernels.hpp"

namespace proxconnect {
namespace {

// Run the body of a function of the C interface with the kernels of an instruction set. Only a lack of memory throws
// there.
template <class Body>
int32_t status_of(int32_t isa, const Body& body) noexcept {
    const Kernels* const kernels = kernels_of(isa);
    if (kernels == nullptr) return LACKS_INSTRUCTIONS;
    try {
        return body(*kernels);
    } catch (...) {
        return OUT_OF_MEMORY;
    }
}

}  // namespace
}  // namespace proxconnect
