// Scales of groups of entries. Those of SCALED outputs are adjacent group after group, so that a tile of outputs reads
// them in order. Scales of 16 bits take half as long to fetch.
//
// V has `scales`, which loads a vector of scales of either type, or `widen`, which converts eight of 16 bits.
#pragma once

#include "float_sign/kernels.hpp"

namespace proxconnect {
namespace {

constexpr int64_t SCALED = 32;

// The scales of the outputs from `output` on, a multiple of eight, for the groups from `group` on.
class GroupScales {
  public:
    GroupScales(const Output& to, int64_t entries, int64_t output, int64_t group) {
        const bool are_halves = to.group_scale == nullptr;
        bytes_ = are_halves ? sizeof *to.half_group_scale : sizeof *to.group_scale;
        apart_ = to.group == 0 ? 0 : entries / to.group * SCALED;
        const void* const begin = are_halves ? static_cast<const void*>(to.half_group_scale) : to.group_scale;
        at_ = static_cast<const char*>(begin) +
              (output / SCALED * apart_ + group * SCALED + output % SCALED) * bytes_;
    }

    void go_to_next_group() { at_ += SCALED * bytes_; }

    // Return the scales of a vector of outputs, which begins `skipped` outputs later. Unless that is 0, `output` must be
    // a multiple of SCALED, here and below.
    template <class V>
    ALWAYS_INLINE typename V::Vector vector(int64_t skipped) const {
        const char* const from = after(skipped);
        if (are_floats()) return V::scales(reinterpret_cast<const float*>(from));
        return V::scales(reinterpret_cast<const uint16_t*>(from));
    }

    // Write the scales of eight outputs.
    template <class V>
    void put(int64_t skipped, float (&to)[PANEL]) const {
        if (are_floats()) std::memcpy(to, after(skipped), sizeof to);
        else V::widen(reinterpret_cast<const uint16_t*>(after(skipped)), to);
    }

  private:
    bool are_floats() const { return bytes_ == sizeof(float); }

    const char* after(int64_t skipped) const {
        return at_ + (skipped / SCALED * apart_ + skipped % SCALED) * bytes_;
    }

    const char* at_;
    int64_t bytes_, apart_;  // of a scale; scales from SCALED outputs to the next
};

}  // namespace
}  // namespace proxconnect
