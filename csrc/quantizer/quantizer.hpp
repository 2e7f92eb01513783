// Latents through a forward-backward pair, and gradients through its slope, a row at a time. A row stays in the cache
// while its magnitude, then F and the best scale, then their product are computed.
#pragma once

#include <algorithm>
#include <cstring>
#include <limits>
#include <type_traits>

#include "isa/kernels.hpp"
#include "isa/vectors.hpp"
#include "quantizer/curves.hpp"
#include "quantizer/flush.hpp"
#include "runtime/scratch.hpp"

namespace proxconnect {
namespace {

// The formats of entries in memory.
struct Float32 {
    using Entry = float;

    template <class I> static typename I::Floats wide(const Entry* x) { return loaded<typename I::Floats>(x); }
    template <class I> static void narrow(typename I::Floats v, Entry* y) { std::memcpy(y, &v, sizeof v); }

    static float* room(Entry* y, int64_t) { return y; }  // what is written last can hold what comes before
};

struct Bfloat16 {
    using Entry = uint16_t;

    template <class I> static typename I::Floats wide(const Entry* x) {
        const auto halves = loaded<typename I::Halves>(x);
        return (typename I::Floats)(__builtin_convertvector(halves, typename I::Words) << 16);
    }

    template <class I> static void narrow(typename I::Floats v, Entry* y) {
        const typename I::Words bits = (typename I::Words)v;
        const typename I::Words even = (bits + 0x7fffu + (bits >> 16 & 1u)) >> 16;
        const typename I::Words rounded = v == v ? even : typename I::Words{} + 0x7fc0u;
        const typename I::Halves halves = __builtin_convertvector(rounded, typename I::Halves);
        std::memcpy(y, &halves, sizeof halves);
    }

    static float* room(Entry*, int64_t columns) {
        return scratch<float, Bfloat16>(columns);
    }
};

// Call work(offset, count) for each vector of n entries. The last may have fewer entries than lanes.
template <class I, class Work> inline void by_vectors(int64_t begin, int64_t end, const Work& work) {
    for (int64_t i = begin; i < end; i += I::lanes) work(i, static_cast<int>(std::min<int64_t>(I::lanes, end - i)));
}

// Load entries, or 0 if there are fewer than lanes.
template <class I, class T> ALWAYS_INLINE inline typename I::Floats load(const typename T::Entry* x, int count) {
    if (count == I::lanes) return T::template wide<I>(x);
    typename T::Entry whole[I::lanes] = {};
    std::copy_n(x, count, whole);
    return T::template wide<I>(whole);
}

template <class I, class T> ALWAYS_INLINE inline void store(typename I::Floats v, typename T::Entry* y, int count) {
    if (count == I::lanes) return T::template narrow<I>(v, y);
    typename T::Entry whole[I::lanes];
    T::template narrow<I>(v, whole);
    std::copy_n(whole, count, y);
}

// Prefetch the entries that are `ahead` further on, to write or only to read. The cache is cold, because other work
// filled it between two layers.
template <class Entry> ALWAYS_INLINE inline void fetch(const Entry* from, int64_t ahead) {
    __builtin_prefetch(reinterpret_cast<const void*>(reinterpret_cast<uintptr_t>(from + ahead)), 0);
}

template <class Entry> ALWAYS_INLINE inline void fetch_to_write(Entry* from, int64_t ahead) {
    __builtin_prefetch(reinterpret_cast<const void*>(reinterpret_cast<uintptr_t>(from + ahead)), 1);
}

constexpr int64_t SUMMED = 1024;  // entries that are summed in float32, before they are in float64

// Σ|x|.
template <class I, class T> double magnitude(const typename T::Entry* x, int64_t n) {
    using V = typename I::Floats;
    double sum = 0;
    for (int64_t begin = 0; begin < n; begin += SUMMED) {
        const int64_t end = std::min(begin + SUMMED, n);
        V sums[4] = {};
        int64_t i = begin;
        for (; i + 4 * I::lanes <= end; i += 4 * I::lanes) {
            for (int k = 0; k < 4; ++k) sums[k] += I::magnitude(T::template wide<I>(x + i + k * I::lanes));
        }
        by_vectors<I>(i, end, [&](int64_t at, int count) { sums[0] += I::magnitude(load<I, T>(x + at, count)); });
        sum += sum_of<I::lanes>(sums[0] + sums[1] + (sums[2] + sums[3]));
    }
    return sum;
}

// Split inner·x/divisor into two factors of x, because 1/divisor exceeds float32 if the divisor is denormal. If it is
// not, a denormal x is 0 unless the curve jumps there: its result would make denormal products in a layer.
struct Stretch {
    float lift, inner;
    bool jumps;

    Stretch(double inner_, double divisor, bool jumps_) : jumps(jumps_) {
        const double by = divisor < 0x1p-90 ? 0x1p100 : divisor > 0x1p90 ? 0x1p-100 : 1.0;
        lift = static_cast<float>(by), inner = static_cast<float>(inner_ / (divisor * by));
    }

    template <class I> typename I::Floats of(typename I::Floats x) const {
        return (lift != 1 ? x : jumps ? normal<I>(x) : normal_or_0<I>(x)) * lift * inner;
    }
};

// f = C(u) of a row. Return ⟨u, f⟩/⟨f, f⟩, where 0/0 is 0.
template <class I, class T, class C>
double fit(const typename T::Entry* x, int64_t n, Stretch stretch, float jump, float* f) {
    using V = typename I::Floats;
    double correlation = 0, energy = 0;
    for (int64_t begin = 0; begin < n; begin += SUMMED) {
        V products = {}, squares = {};
        by_vectors<I>(begin, std::min(begin + SUMMED, n), [&](int64_t at, int count) {
            fetch(x + at, n), fetch_to_write(f + at, n);
            const V u = stretch.of<I>(load<I, T>(x + at, count)), value = C::value(u, jump);
            store<I, Float32>(value, f + at, count);
            const V inside = load<I, Float32>(f + at, count);  // 0 beyond the last entry, where C may jump
            products = I::fma(u, inside, products), squares = I::fma(inside, inside, squares);
        });
        correlation += sum_of<I::lanes>(products), energy += sum_of<I::lanes>(squares);
    }
    return energy == 0 ? correlation : correlation / energy;
}

template <class I, class T> void multiply(const float* f, int64_t n, float by, typename T::Entry* y) {
    by_vectors<I>(0, n, [&](int64_t at, int count) {
        store<I, T>(load<I, Float32>(f + at, count) * by, y + at, count);
    });
}

template <class I, class T, class C>
void map(const typename T::Entry* x, int64_t n, Stretch stretch, float jump, float by, typename T::Entry* y) {
    by_vectors<I>(0, n, [&](int64_t at, int count) {
        store<I, T>(C::value(stretch.of<I>(load<I, T>(x + at, count)), jump) * by, y + at, count);
    });
}

template <class I, class T> void mark_inside(const typename T::Entry* x, int64_t n, float bound, uint8_t* inside) {
    by_vectors<I>(0, n, [&](int64_t at, int count) {
        const typename I::Words beyond = (typename I::Words)(I::magnitude(load<I, T>(x + at, count)) > bound);
        const typename I::Bytes bytes = __builtin_convertvector(beyond + 1u, typename I::Bytes);
        std::memcpy(inside + at, &bytes, static_cast<size_t>(count));
    });
}

// The ends of a row, and its entries in `all`.
template <class T, class Rows> struct Row {
    int64_t begin, entries;

    Row(const Rows& rows, int64_t number)
        : begin(number * rows.columns), entries(std::min(rows.columns, rows.entries - begin)) {}

    const typename T::Entry* of(const void* all) const { return static_cast<const typename T::Entry*>(all) + begin; }
    typename T::Entry* of(void* all) const { return static_cast<typename T::Entry*>(all) + begin; }
};

// F(x) = gain·C(inner·x), with a parameter `jump` of C, and B(x) = inner·gain·C'(inner·x).
struct Constants {
    float inner = 1, gain = 1, jump = 0;
    bool is_sign;

    Constants(int32_t curve, float mu) : is_sign(curve == SIGN) {
        if (curve == CLIP || curve == POLYNOMIAL || curve == TANH || curve == SIGN_SWISH) inner = mu;
        if (curve == ERROR_DECAY) inner = mu, gain = 1 / std::min(mu, 1.0f);
        if (curve == PROXCONNECT) jump = 1 - 1 / mu;
        if (curve == BINARYRELAX) inner = 1 / mu, jump = 1 - 1 / mu;
    }

    bool jumps() const { return is_sign || jump > 0; }
};

template <class I, class T, class C> void quantize_unscaled(const Quantization& q, int64_t number) {
    const Constants k(q.curve, q.mu);
    const Row<T, Quantization> row(q, number);
    const Flush flush(true);
    map<I, T, C>(row.of(q.x), row.entries, Stretch(k.inner, 1.0, k.jumps()), k.jump, k.gain, row.of(q.y));
    if (q.inside != nullptr) mark_inside<I, T>(row.of(q.x), row.entries, 1.0f, q.inside + row.begin);
}

template <class I, class T, class C> void quantize_scaled(const Quantization& q, int64_t number) {
    const Constants k(q.curve, q.mu);
    const Row<T, Quantization> row(q, number);
    const typename T::Entry* const x = row.of(q.x);
    typename T::Entry* const y = row.of(q.y);
    const float mean = static_cast<float>(magnitude<I, T>(x, row.entries) / static_cast<double>(row.entries));
    const float divisor = mean == 0 ? 1.0f : mean;
    const double scale = q.is_unit ? 1.0 : mean;
    const Flush flush(mean >= std::numeric_limits<float>::min());
    double ratio = 1;  // α/ᾱ
    if (std::is_same<C, SignCurve<I>>::value) {  // of x itself, since u may underflow
        map<I, T, C>(x, row.entries, Stretch(1.0, 1.0, true), 0.0f, static_cast<float>(scale), y);
    } else {
        float* const f = T::room(y, row.entries);
        const double fitted = fit<I, T, C>(x, row.entries, Stretch(k.inner, divisor, k.jumps()), k.jump, f);
        if (mean != 0) ratio = fitted / (static_cast<double>(k.inner) * k.gain);
        multiply<I, T>(f, row.entries, static_cast<float>(ratio * k.gain * scale), y);
    }
    if (q.inside != nullptr) mark_inside<I, T>(x, row.entries, divisor, q.inside + row.begin);
    q.divisor[number] = divisor;
    q.factor[number] = static_cast<float>(q.is_unit ? ratio / std::max(divisor, 0x1p-100f) : ratio);
}

template <class I, class T, class C> void quantize_rows(const Quantization& q, int64_t first, int64_t last) {
    const auto one = q.divisor == nullptr ? quantize_unscaled<I, T, C> : quantize_scaled<I, T, C>;
    for (int64_t number = first; number < last; ++number) one(q, number);
}

template <class I, class T> void quantize_as(const Quantization& q, int64_t first, int64_t last) {
    switch (q.curve) {
        case CLIP: return quantize_rows<I, T, ClipCurve<I>>(q, first, last);
        case POLYNOMIAL: return quantize_rows<I, T, PolynomialCurve<I>>(q, first, last);
        case TANH:
        case ERROR_DECAY: return quantize_rows<I, T, TanhCurve<I>>(q, first, last);
        case SIGN_SWISH: return quantize_rows<I, T, SignSwishCurve<I>>(q, first, last);
        case PROXCONNECT: return quantize_rows<I, T, ProxConnectCurve<I>>(q, first, last);
        case BINARYRELAX: return quantize_rows<I, T, BinaryRelaxCurve<I>>(q, first, last);
        default: return quantize_rows<I, T, SignCurve<I>>(q, first, last);
    }
}

template <class I> void quantize(const Quantization& q, int64_t first, int64_t last) {
    q.is_bfloat16 ? quantize_as<I, Bfloat16>(q, first, last) : quantize_as<I, Float32>(q, first, last);
}

// The slope of SIGN is 1, or 0 where `inside` says so.
template <class I, class T, class C> void slope_rows(const Slope& s, int64_t first, int64_t last) {
    constexpr bool IS_SIGN = std::is_same<C, SignCurve<I>>::value;
    const Constants k(s.curve, s.mu);
    for (int64_t number = first; number < last; ++number) {
        const Row<T, Slope> row(s, number);
        const Stretch stretch(k.inner, s.divisor == nullptr ? 1.0 : s.divisor[number], k.jumps());
        const float by = k.inner * k.gain * (s.factor == nullptr ? 1.0f : s.factor[number]);
        const Flush flush(!IS_SIGN);
        const typename T::Entry *const x = row.of(s.x), *const g = row.of(s.g);
        typename T::Entry* const y = row.of(s.y);
        by_vectors<I>(0, row.entries, [&](int64_t at, int count) {
            typename I::Floats slope = I::all(by);
            if constexpr (!IS_SIGN) {
                fetch(x + at, 512), fetch(g + at, 512), fetch_to_write(y + at, 512);
                slope = C::slope(stretch.of<I>(load<I, T>(x + at, count))) * by;
            } else if (s.inside != nullptr) {
                typename I::Bytes bytes = {};
                std::memcpy(&bytes, s.inside + row.begin + at, static_cast<size_t>(count));
                slope *= __builtin_convertvector(bytes, typename I::Floats);
            }
            store<I, T>(load<I, T>(g + at, count) * slope, y + at, count);
        });
    }
}

template <class I, class T> void slope_as(const Slope& s, int64_t first, int64_t last) {
    switch (s.curve) {
        case CLIP: return slope_rows<I, T, ClipCurve<I>>(s, first, last);
        case POLYNOMIAL: return slope_rows<I, T, PolynomialCurve<I>>(s, first, last);
        case TANH:
        case ERROR_DECAY: return slope_rows<I, T, TanhCurve<I>>(s, first, last);
        case SIGN_SWISH: return slope_rows<I, T, SignSwishCurve<I>>(s, first, last);
        default: return slope_rows<I, T, SignCurve<I>>(s, first, last);
    }
}

template <class I> void slope(const Slope& s, int64_t first, int64_t last) {
    s.is_bfloat16 ? slope_as<I, Bfloat16>(s, first, last) : slope_as<I, Float32>(s, first, last);
}

}  // namespace
}  // namespace proxconnect
