// Several callers at the same time, with separate inputs and the same weights, whose work is shared by threads too.
// Every answer must equal that of a caller alone. Made for ThreadSanitizer: `make test-tsan`.
#include <atomic>
#include <cstdio>
#include <thread>

#include "tests/test_calls.hpp"

int check_threads(int32_t isa, int& runs) {
    constexpr size_t CALLERS = 4, ROUNDS = 1;
    constexpr int32_t THREADS = 3;
    const Shared shared;
    const std::vector<Call> calls = calls_of(isa, shared);
    std::vector<std::vector<Floats>> inputs(CALLERS), alone(CALLERS);
    for (size_t number = 0; number < CALLERS; ++number) {
        for (const Call& call : calls) {
            inputs[number].push_back(drawn(call.inputs, static_cast<unsigned>(number)));
            alone[number].push_back(call.answer(inputs[number].back(), THREADS));
        }
    }
    std::atomic<int> failures{0};
    const auto caller = [&](size_t number) {
        for (size_t i = 0; i < ROUNDS * calls.size(); ++i) {
            const size_t which = (i + number / 2) % calls.size();  // the same and others are called at the same time
            if (are_same(calls[which].answer(inputs[number][which], THREADS), alone[number][which])) continue;
            ++failures;
            std::printf("isa %d: callers at once: %s\n", isa, calls[which].name);
        }
    };
    std::vector<std::thread> callers;
    for (size_t number = 0; number < CALLERS; ++number) callers.emplace_back(caller, number);
    for (std::thread& thread : callers) thread.join();
    runs += static_cast<int>(CALLERS * ROUNDS * calls.size());
    return failures;
}
