// Every function of the library that shares work, with enough work for threads, for the tests of threads and memory.
#pragma once

#include <functional>
#include <vector>

#include "proxconnect.h"
#include "tests/test_images.hpp"

using Floats = std::vector<float>;

// The arguments that all calls share.
struct Shared {
    std::vector<uint64_t> words;
    std::vector<int8_t> bytes;
    Floats vector, zeros;
    Geometry image, several, depthwise;
    Window pool;
    Step step = {CLAMP, 0, 1, nullptr, nullptr};
    Fused plain = {{NEVER, 8, 1, 0, nullptr, nullptr}, 0, nullptr, nullptr}, scaled, fused;
    Attention attention = {1, 4, 100, 100, 32, {}, {}, {}, 0.2f};

    Shared();
};

struct Call {
    const char* name;
    int64_t inputs, outputs;
    std::function<int32_t(const float* x, float* y, int32_t threads)> run;  // allocates nothing itself

    // Return the outputs, or none if the call did not return DONE.
    Floats answer(const Floats& x, int32_t threads) const;
};

// Return the calls of an instruction set, which read `shared`.
std::vector<Call> calls_of(int32_t isa, const Shared& shared);

// Return inputs within ±1.
Floats drawn(int64_t count, unsigned seed);

bool are_same(const Floats& a, const Floats& b);
