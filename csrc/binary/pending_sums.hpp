// Sums that become outputs a few rows at a time, while tiles compute the next.
#pragma once

#include "binary/outputs.hpp"
#include "isa/avx512.hpp"
#include "isa/tile_products.hpp"

namespace proxconnect {
namespace {

constexpr int64_t TILES_AT_ONCE = 4, PITCH = 64;  // of rows; a row of sums is of so many outputs

// Where rows of sums lie, and which rows of the outputs they become.
struct Targets {
    int64_t count, rows[TILES_AT_ONCE * TILE_ROWS], places[TILES_AT_ONCE * TILE_ROWS];
};

class PendingSums {
  public:
    explicit PendingSums(const Outputs& outputs) : outputs_(outputs) {}

    // The place to store the next sums.
    int32_t* next() { return sums_[is_second_]; }

    // Hold these sums until they are put; `targets` must live until the next call.
    void hold(const Targets& targets, Channels channels) {
        put_all();
        from_ = next(), targets_ = &targets, channels_ = channels, at_ = 0;
        is_second_ = !is_second_;
    }

    void put_some() {
        if (targets_ != nullptr && at_ + ROWS <= targets_->count) put<ROWS>();
    }

    void put_all() {
        if (targets_ == nullptr) return;
        while (at_ + ROWS <= targets_->count) put<ROWS>();
        while (at_ < targets_->count) put<1>();
    }

  private:
    static constexpr int ROWS = 4;

    template <int COUNT>
    void put() {
        channels_.count() > PITCH / 2 ? put<COUNT, PITCH>() : put<COUNT, PITCH / 2>();
        at_ += COUNT;
    }

    template <int COUNT, int SIZE>
    void put() const {
        const int32_t* const from = from_;
        const int64_t* const places = targets_->places + at_;
        const auto sums = [&](int r, int64_t c) { return loaded<Ints<Avx512>>(from + places[r] * PITCH + c); };
        proxconnect::put<Avx512, COUNT, SIZE>(sums, outputs_, targets_->rows + at_, channels_);
    }

    const Outputs& outputs_;
    const Targets* targets_ = nullptr;
    const int32_t* from_ = nullptr;
    Channels channels_ = {};
    int64_t at_ = 0;
    bool is_second_ = false;
    alignas(64) int32_t sums_[2][TILES_AT_ONCE * TILE_ROWS * PITCH];
};

}  // namespace
}  // namespace proxconnect
