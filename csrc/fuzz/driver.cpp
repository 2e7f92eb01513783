// A replacement for libFuzzer: RUNS inputs of random bytes. A seed and a number name an input.
//
// fuzz_seeded [RUNS [SEED [FIRST]]]
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <vector>

#include "fuzz/guarded.hpp"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size);

namespace {

long long number, seed;

// Print the input that ended the process.
void tell() { std::fprintf(stderr, "input %lld of seed %lld\n", number, seed); }
void tell_of_abort(int) { tell(); }

}  // namespace

int main(int count, char** arguments) {
    const auto argument = [&](int i, long long otherwise) { return count > i ? std::atoll(arguments[i]) : otherwise; };
    const long long runs = argument(1, 2000), first = argument(3, 0);
    seed = argument(2, 0);
    std::signal(SIGABRT, tell_of_abort);
#if defined(PROXCONNECT_HAS_ASAN)
    __sanitizer_set_death_callback(tell);
#endif
    for (number = first; number < first + runs; ++number) {
        std::mt19937_64 random(static_cast<uint64_t>(seed) << 32 | static_cast<uint64_t>(number));
        std::vector<uint8_t> bytes(128);
        for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(random());
        LLVMFuzzerTestOneInput(bytes.data(), bytes.size());
    }
    std::printf("%lld executions, no failure\n", runs);
    return 0;
}
