// The C interface returns statuses and throws nothing.
#pragma once

#include "proxconnect.h"

namespace proxconnect {
namespace {

// Runs the body of a function of the C interface. Whatever is thrown there comes of memory that is not to be had.
template <class Body>
int32_t status_of(const Body& body) noexcept {
    try {
        return body();
    } catch (...) {
        return OUT_OF_MEMORY;
    }
}

}  // namespace
}  // namespace proxconnect
