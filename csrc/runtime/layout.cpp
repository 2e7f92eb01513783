// Offsets of the fields of the interface's structures, for callers that declare them by hand.
#include <cstddef>

#include "proxconnect.h"

namespace {

#define PLACE(structure, field) static_cast<int64_t>(offsetof(structure, field))

constexpr int64_t LAYOUT[] = {
    sizeof(Output), PLACE(Output, overflow), PLACE(Output, bits), PLACE(Output, slope), PLACE(Output, scales),
    PLACE(Output, scale), PLACE(Output, bias), PLACE(Output, group), PLACE(Output, group_scale),
    PLACE(Output, half_group_scale),

    sizeof(Step), PLACE(Step, kind), PLACE(Step, low), PLACE(Step, high), PLACE(Step, a), PLACE(Step, b),

    sizeof(Signs), PLACE(Signs, intervals), PLACE(Signs, low), PLACE(Signs, width),

    sizeof(Fused), PLACE(Fused, output), PLACE(Fused, step_count), PLACE(Fused, steps), PLACE(Fused, signs),

    sizeof(Window), PLACE(Window, size), PLACE(Window, out_size), PLACE(Window, kernel), PLACE(Window, stride),
    PLACE(Window, padding),

    sizeof(Geometry), PLACE(Geometry, batch), PLACE(Geometry, channels), PLACE(Geometry, size),
    PLACE(Geometry, out_channels), PLACE(Geometry, out_size), PLACE(Geometry, kernel), PLACE(Geometry, stride),
    PLACE(Geometry, padding), PLACE(Geometry, dilation), PLACE(Geometry, groups), PLACE(Geometry, image_stride),
    PLACE(Geometry, channel_stride), PLACE(Geometry, row_stride), PLACE(Geometry, pixel_stride),
    PLACE(Geometry, border), PLACE(Geometry, has_planes), PLACE(Geometry, input_shift),

    sizeof(Attention), PLACE(Attention, batch), PLACE(Attention, heads), PLACE(Attention, queries),
    PLACE(Attention, keys), PLACE(Attention, width), PLACE(Attention, q_strides), PLACE(Attention, k_strides),
    PLACE(Attention, v_strides), PLACE(Attention, scale),

    sizeof(LayerNorm), PLACE(LayerNorm, width), PLACE(LayerNorm, weight), PLACE(LayerNorm, bias), PLACE(LayerNorm, eps),

    sizeof(DecoderProduct), PLACE(DecoderProduct, panels), PLACE(DecoderProduct, outputs), PLACE(DecoderProduct, fused),

    sizeof(Decoder), PLACE(Decoder, width), PLACE(Decoder, hidden), PLACE(Decoder, heads), PLACE(Decoder, key_heads),
    PLACE(Decoder, head_width), PLACE(Decoder, eps), PLACE(Decoder, scale), PLACE(Decoder, rounds),
    PLACE(Decoder, input_norm), PLACE(Decoder, hidden_norm), PLACE(Decoder, query_norm), PLACE(Decoder, key_norm),
    PLACE(Decoder, query), PLACE(Decoder, key), PLACE(Decoder, value), PLACE(Decoder, output), PLACE(Decoder, gate),
    PLACE(Decoder, up), PLACE(Decoder, down),

    sizeof(DecoderCache), PLACE(DecoderCache, keys), PLACE(DecoderCache, values), PLACE(DecoderCache, tokens),
    PLACE(DecoderCache, strides), PLACE(DecoderCache, seen),
};
constexpr int32_t COUNT = sizeof LAYOUT / sizeof *LAYOUT;

}  // namespace

int32_t px_layout(int64_t* numbers, int32_t count) {
    for (int32_t i = 0; i < count && i < COUNT; ++i) numbers[i] = LAYOUT[i];
    return COUNT;
}
