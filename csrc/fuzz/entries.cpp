#include "fuzz/entries.hpp"

namespace fuzz {

Machine::Machine(Draws& draws) {
    isa = static_cast<int32_t>(draws.within(PORTABLE, AVX512_VNNI));
    const bool is_wrong = draws.rarely();
    if (!px_supports(isa) && !is_wrong) isa = PORTABLE;
    if (is_wrong && draws.coin()) isa = draws.one_of<int32_t>({-1, AVX512_VNNI + 1, 1000, INT32_MIN, INT32_MAX});
    threads = draws.one_of<int32_t>({1, 1, 1, 2, 3, 5, 0, -3});
}

void require(bool holds, const char* what, int64_t at, double expected, double found) {
    if (holds) return;
    std::fprintf(stderr, "%s: at %lld: expected %.9g, found %.9g\n", what, (long long)at, expected, found);
    std::abort();
}

bool same(float a, float b) { return std::memcmp(&a, &b, sizeof a) == 0 || (std::isnan(a) && std::isnan(b)); }

Guarded<float> floats(Draws& draws, int64_t count, Mood mood, int64_t after) {
    Guarded<float> values(count + after, draws.coin());
    for (int64_t i = 0; i < count; ++i) values[i] = draws.number(mood);
    for (int64_t i = count; i < count + after; ++i) values[i] = values[i - count];
    return values;
}

void bound(Draws& draws, std::initializer_list<int64_t*> sizes, int64_t most) {
    const auto is_smaller = [](const int64_t* a, const int64_t* b) { return *a < *b; };
    const auto product = [&] {
        int64_t all = 1;
        for (const int64_t* const size : sizes) all *= *size;
        return all;
    };
    if (draws.below(64) == 63) {
        while (product() < 150 * most) **std::min_element(sizes.begin(), sizes.end(), is_smaller) *= 2;
        return;
    }
    if (draws.rarely()) most *= 16;
    while (product() > most) **std::max_element(sizes.begin(), sizes.end(), is_smaller) /= 2;
}

Rows Rows::drawn(Draws& draws, const std::array<int64_t, 3>& most, int64_t work) {
    int64_t m = draws.rarely() ? 0 : draws.size(most[0]), n = draws.size(most[1]), entries = draws.size(most[2]);
    if (m > 0) bound(draws, {&m, &n, &entries}, work);
    if (draws.below(6) == 0) entries = (entries + 63) / 64 * 64;  // words, for which some kernels make tables
    const int64_t stride = entries + draws.one_of<int64_t>({0, 0, 1, 7});
    Guarded<float> x = floats(draws, m == 0 ? 0 : (m - 1) * stride + entries, draws.mood());
    for (int64_t i = 0; i < x.size(); ++i) x[i] = i % stride < entries ? x[i] : NAN;
    return {m, n, entries, stride, std::move(x)};
}

}  // namespace fuzz
