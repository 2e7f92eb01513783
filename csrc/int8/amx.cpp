#include "int8/amx.hpp"

#include "isa/amx.hpp"

#if defined(PROXCONNECT_HAS_TILES)

#include <immintrin.h>

namespace proxconnect {
namespace {

thread_local bool is_held = false;
thread_local int64_t configured = 0;  // for steps of so many times four entries; 0 where tiles are not configured

// Sums are tiles 0 to 3, rows tile 4, blocks of the weight tiles 5 and 6, of so many times four entries: loads, not
// products, bound what is short.
void configure(int64_t fours) {
    if (configured == fours) return;
    TileConfiguration configuration;
    configuration.bytes[4] = static_cast<uint16_t>(4 * fours);
    configuration.rows[5] = configuration.rows[6] = static_cast<uint8_t>(fours);
    _tile_loadconfig(&configuration);
    configured = fours;
}

void release() {
    if (is_held || configured == 0) return;
    _tile_release();
    configured = 0;
}

// The sums of 16 rows with all four blocks.
void multiply_tile(const ByteRows& rows, const uint8_t* x, const int8_t* panels, int32_t* sums) {
    const int64_t apart = block_bytes(rows.step_count);
    constexpr int64_t PITCH = TILE * sizeof(int32_t);
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (int64_t j = 0; j < rows.step_count; ++j, panels += STEP_BYTES) {
        _tile_loadd(4, x + rows.steps[j].at, rows.stride);
        _tile_loadd(5, panels, 64);
        _tile_dpbusd(0, 4, 5);
        _tile_loadd(6, panels + apart, 64);
        _tile_dpbusd(1, 4, 6);
        _tile_loadd(5, panels + 2 * apart, 64);
        _tile_dpbusd(2, 4, 5);
        _tile_loadd(6, panels + 3 * apart, 64);
        _tile_dpbusd(3, 4, 6);
    }
    _tile_stored(0, sums, PITCH);
    _tile_stored(1, sums + 16, PITCH);
    _tile_stored(2, sums + 32, PITCH);
    _tile_stored(3, sums + 48, PITCH);
}

// The sums of 16 rows with one block.
void multiply_block(const ByteRows& rows, const uint8_t* x, const int8_t* panels, int32_t* sums) {
    _tile_zero(0);
    for (int64_t j = 0; j < rows.step_count; ++j, panels += STEP_BYTES) {
        _tile_loadd(4, x + rows.steps[j].at, rows.stride);
        _tile_loadd(5, panels, 64);
        _tile_dpbusd(0, 4, 5);
    }
    _tile_stored(0, sums, TILE * sizeof(int32_t));
}

}  // namespace

void multiply_by_amx(const ByteRows& rows, int64_t count, const int8_t* panels, int64_t blocks, int32_t* sums) {
    int64_t fours = 1;
    for (int64_t j = 0; j < rows.step_count; ++j) fours = most(fours, rows.steps[j].fours);
    configure(fours);
    for (int64_t r = 0; r < count; r += 16) {
        const uint8_t* const x = rows.x + r * rows.stride;
        if (blocks == BLOCKS) {
            multiply_tile(rows, x, panels, sums + r * TILE);
            continue;
        }
        for (int64_t i = 0; i < blocks; ++i) {
            multiply_block(rows, x, panels + i * block_bytes(rows.step_count), sums + r * TILE + i * BLOCK);
        }
    }
    release();
}

void hold_tiles(bool holds) {
    is_held = holds;
    release();
}

}  // namespace proxconnect

#else

namespace proxconnect {

void multiply_by_amx(const ByteRows&, int64_t, const int8_t*, int64_t, int32_t*) {}
void hold_tiles(bool) {}

}  // namespace proxconnect

#endif
