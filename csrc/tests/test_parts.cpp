// Parts of a product cover every row and output once. Threads that take them one at a time get nearly equal shares.
#include <algorithm>
#include <cstdio>
#include <vector>

#include "runtime/parts.hpp"

using namespace proxconnect;

namespace {

constexpr int64_t WORTH = 1 << 17;

struct Product {
    int64_t rows, panels, grain, width;

    double work() const { return 8.0 * static_cast<double>(rows * panels * width); }
    Parts parts(int32_t threads) const { return {rows, panels, grain, work(), WORTH, threads}; }
};

bool are_covered_once(const Product& p, int32_t threads) {
    const Parts parts = p.parts(threads);
    std::vector<int> found(static_cast<size_t>(p.rows * p.panels));
    for (int64_t part = 0; part < parts.count(); ++part) {
        parts.each(part, [&](int64_t row, int64_t last_row, int64_t begin, int64_t end) {
            for (int64_t i = row * p.panels; i < last_row * p.panels; ++i) {
                found[static_cast<size_t>(i)] += i % p.panels >= begin && i % p.panels < end;
            }
        });
    }
    return std::count(found.begin(), found.end(), 1) == p.rows * p.panels;
}

// Return the work of the busiest thread over the mean, if each takes the next part when it is done with one.
double largest_share(const Product& p, int32_t threads) {
    const Parts parts = p.parts(threads);
    std::vector<int64_t> shares(static_cast<size_t>(parts.threads()));
    for (int64_t part = 0; part < parts.count(); ++part) {
        int64_t& least_busy = *std::min_element(shares.begin(), shares.end());
        parts.each(part, [&](int64_t row, int64_t last_row, int64_t begin, int64_t end) {
            least_busy += (last_row - row) * (end - begin);
        });
    }
    const double mean = static_cast<double>(p.rows * p.panels) / parts.threads();
    return static_cast<double>(*std::max_element(shares.begin(), shares.end())) / mean;
}

}  // namespace

int check_parts(int& runs) {
    int failures = 0;
    const auto require = [&](bool is_right, const char* what, const Product& p, int32_t threads) {
        ++runs;
        if (is_right) return;
        ++failures;
        std::printf("parts: %s: %lld rows, %lld panels, %d threads\n", what, static_cast<long long>(p.rows),
                    static_cast<long long>(p.panels), threads);
    };
    for (const int32_t threads : {0, 1, 2, 3, 8, 64}) {
        for (const int64_t rows : {1, 15, 16, 49, 197}) {
            for (const int64_t panels : {1, 3, 8, 25, 96}) {
                const Product p = {rows, panels, panels % 2 == 0 ? 8 : 4, 1 << 20};
                require(are_covered_once(p, threads), "not covered once", p, threads);
            }
        }
        const Product usual[] = {{197, 24, 8, 3},   {197, 96, 8, 3}, {197, 24, 8, 12}, {197, 96, 8, 12},
                                 {197, 384, 8, 12}, {3136, 8, 8, 9}, {128, 48, 8, 6},  {1, 512, 8, 64},
                                 {16, 512, 8, 64},  {2048, 256, 8, 32}};
        for (const Product& p : usual) require(largest_share(p, threads) <= 1.25, "uneven", p, threads);
    }
    return failures;
}
