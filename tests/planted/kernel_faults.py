"""Faults in the C++ kernels: thirty that any x86 machine with AVX-512 can see, and five that take an emulator."""

from planted.fault import Fault, fault

LINEAR = "kernels/test_binary_linear.py"
CONV = "kernels/test_binary_conv2d.py"
LAYERS = "kernels/test_fused_layers.py"
FLOATS = "kernels/test_weight_only_linear.py"
QUANTIZER = "quantizer/test_compiled.py"

SIGNS: tuple[Fault, ...] = (
    fault(
        "avx2-sign-of-zero", "AVX2 packs a zero as -1 instead of +1", f"{LINEAR} {CONV}",
        ("csrc/isa/avx2.cpp", "_mm256_setzero_ps(), _CMP_GE_OQ", "_mm256_setzero_ps(), _CMP_GT_OQ"),
    ),
    fault(
        "avx512-nan-of-a-half", "AVX-512 looks for NaN in every second vector only", f"{LINEAR} {CONV}",
        ("csrc/isa/avx512_words.hpp", "_mm512_cmp_ps_mask(low, high, _CMP_UNORD_Q)",
         "_mm512_cmp_ps_mask(low, low, _CMP_UNORD_Q)"),
    ),
    fault(
        "tail-of-a-row", "the bits behind the last entry of a row are +1", f"{LINEAR} {LAYERS}",
        ("csrc/binary/signs.hpp", "x[j * 64 + i] : -1.0f", "x[j * 64 + i] : 1.0f"),
        ("csrc/binary/signs.hpp", "std::fill_n(gathered, 64, -1.0f)", "std::fill_n(gathered, 64, 1.0f)"),
    ),
    fault(
        "shift-of-later-channels", "channels from 64 on get the input shift of the first 64", f"{LAYERS} {CONV}",
        ("csrc/binary/images.hpp", "g.input_shift + 64 * k", "g.input_shift"),
    ),
)  # fmt: skip

PRODUCTS: tuple[Fault, ...] = (
    fault(
        "portable-count-above-255", "the portable count of differing bits is kept in 8 bits", f"{LINEAR} {CONV}",
        ("csrc/isa/portable.cpp", "return (x + (x >> 32)) & 0xffffu;", "return (x + (x >> 32)) & 0xffu;"),
    ),
    fault(
        "avx2-count-in-one-lane", "AVX2's table counts 3 bits for 15 in the upper lane", f"{LINEAR} {CONV}",
        ("csrc/isa/avx2.cpp", "2, 3, 1, 2, 2, 3, 2, 3, 3, 4);", "2, 3, 1, 2, 2, 3, 2, 3, 3, 3);"),
    ),
    fault(
        "last-panel", "the last panel of a weight is not multiplied", f"{LINEAR} {LAYERS}",
        ("csrc/binary/products.hpp", "for (; panel < last; ++panel) strip<V, 1>",
         "for (; panel + 1 < last; ++panel) strip<V, 1>"),
    ),
)  # fmt: skip

CONVOLUTIONS: tuple[Fault, ...] = (
    fault(
        "border-of-nothing", "a border of nothing counts as +1 on the left", f"{CONV} {LAYERS}",
        ("csrc/binary/images.hpp", "append_border(g.border > 0, border, 0, row);",
         "append_border(g.border >= 0, border, 0, row);"),
    ),
    fault(
        "whole-columns", "columns that lack their left tap count as whole if the stride is above 1",
        f"{CONV} {LAYERS}",
        ("csrc/binary/pixel_tiles.hpp",
         "(g_.padding[1] + g_.stride[1] - 1) / g_.stride[1]", "g_.padding[1] / g_.stride[1]"),
    ),
    fault(
        "dilation-of-the-other-axis", "columns of a gathered patch are dilated as rows are", f"{CONV} {LAYERS}",
        ("csrc/binary/word_conv.hpp", "image.pad + j * g.dilation[1]", "image.pad + j * g.dilation[0]"),
    ),
    fault(
        "stride-of-the-other-axis", "columns of a gathered patch step as rows do", f"{CONV} {LAYERS}",
        ("csrc/binary/word_conv.hpp", "distance = g.stride[1] * g.channels", "distance = g.stride[0] * g.channels"),
    ),
    fault(
        "words-of-a-group", "a group begins one word, not its number of words, after the last one",
        f"{CONV} {LAYERS}",
        ("csrc/binary/word_conv.hpp", "+ group * (inner / 64);", "+ group;"),
    ),
    fault(
        "thin-plane", "the last plane of a thin convolution has bits of the next group", f"{CONV} {LAYERS}",
        ("csrc/binary/thin_conv.hpp", "count = least(8, inner - 8 * plane), groups", "count = 8, groups"),
    ),
    fault(
        "planes-of-a-band", "outputs in planes: every band of pixels is written over the first", f"{CONV}",
        ("csrc/binary/conv.cpp", "outputs.first * g.out_channels + first, plane)",
         "outputs.first * g.out_channels, plane)"),
        ("csrc/epilogue/planes.hpp", "outputs.first * g.out_channels + first, plane)",
         "outputs.first * g.out_channels, plane)"),
    ),
)  # fmt: skip

OUTPUTS: tuple[Fault, ...] = (
    fault(
        "saturation-bound", "a saturating accumulator of b bits holds 2^(b-1)", f"{LINEAR} {CONV}",
        ("csrc/binary/outputs.hpp", "Ints<V>{} + (bound - 1);", "Ints<V>{} + bound;"),
    ),
    fault(
        "cyclic-bound", "a cyclic accumulator falls to 0 one step too early", f"{LINEAR} {CONV}",
        ("csrc/binary/outputs.hpp", "output.slope * (bound - size);", "output.slope * (bound - 1.0f - size);"),
    ),
    fault(
        "scale-of-the-last-channels", "the last channels of a block get the scale and bias of its first ones",
        f"{LINEAR} {CONV}",
        ("csrc/binary/outputs.hpp", "output, of.begin + c), of.count() - c", "output, of.begin), of.count() - c"),
        ("csrc/binary/outputs.hpp", "outputs.output, channel + c);", "outputs.output, channel);"),
    ),
    fault(
        "second-interval", "signs: the second interval of a channel is read from the wrong place",
        f"{LAYERS} deploy/fusion/test_intervals.py",
        ("csrc/binary/outputs.hpp", "++k, at += outputs.channels + BEYOND)", "++k, at += outputs.channels)"),
    ),
    fault(
        "avx512-end-of-an-interval", "AVX-512: the end of an interval of signs belongs to it", f"{LAYERS}",
        ("csrc/isa/avx512.hpp", "_mm512_cmplt_epu32_mask", "_mm512_cmple_epu32_mask"),
    ),
    fault(
        "clamp-of-nan", "a clamp turns NaN into its lower bound", f"{LAYERS} kernels/test_finish_pool.py",
        ("csrc/epilogue/steps.hpp", "v = v < low ? low : v;", "v = v > low ? v : low;"),
    ),
    fault(
        "second-addend", "the second addition of an epilogue adds the first tensor again",
        f"{LAYERS} deploy/fusion/test_adding.py",
        ("csrc/epilogue/steps.hpp", "                ++other;\n", ""),
    ),
)  # fmt: skip

FLOAT_PRODUCTS: tuple[Fault, ...] = (
    fault(
        "avx2-table-of-two", "AVX2: the last table of a word, of two entries, takes a third", f"{FLOATS}",
        ("csrc/float_sign/avx2.cpp", "table(x[0], x[1], 0.0f)", "table(x[0], x[1], x[2])"),
    ),
    fault(
        "avx512-rounding", "8-bit products: inputs are rounded toward 0 instead of to the nearest", f"{FLOATS}",
        ("csrc/int8/inputs.hpp", "x[i] * inverse + TO_WHOLE", "float(int32_t(x[i] * inverse)) + TO_WHOLE"),
        ("csrc/float_sign/byte_products.hpp", "_mm512_cvtps_epi32(scaled)", "_mm512_cvttps_epi32(scaled)"),
    ),
    fault(
        "patch-at-the-border", "a dilated patch takes its first tap from beyond the border",
        "kernels/test_weight_only_conv2d.py",
        ("csrc/float_sign/conv.cpp", "(-left + apart - 1) / apart", "-left / apart"),
        ("csrc/binary/tap_range.hpp", "(step - 1 - start) / step", "-start / step"),
    ),
    fault(
        "zero-point-of-the-border", "the border of an 8-bit image is 0 - 128 instead of 0",
        "kernels/test_int8.py kernels/test_fused_int8_conv.py",
        ("csrc/int8/image.cpp", "constexpr int ZERO = 128;", "constexpr int ZERO = 0;"),
    ),
    fault(
        "totals-of-later-tiles", "8-bit outputs from 64 on subtract the weight sums of the first 64",
        "kernels/test_int8.py kernels/test_fused_int8_linear.py",
        ("csrc/int8/outputs.hpp", "(block + i) * block_bytes(steps) + steps", "i * block_bytes(steps) + steps"),
        ("csrc/int8/outputs.hpp", "o.panels + (block + 1)", "o.panels + (block - o.first + 1)"),
    ),
    fault(
        "order-reversed-twice", "8-bit sums are pooled as reversed though two negative factors keep their order",
        "kernels/test_fused_int8_conv.py deploy/fusion/test_int8_remainder.py",
        ("csrc/int8/fused_conv.cpp", "is_reversed ^= step->a[c] < 0;", "is_reversed |= step->a[c] < 0;"),
    ),
)  # fmt: skip

LATENTS_AND_THREADS: tuple[Fault, ...] = (
    fault(
        "mask-at-the-bound", "the mask of a gradient leaves out |x| = 1", f"{QUANTIZER} quantizer/test_quantizer.py",
        ("csrc/quantizer/quantizer.hpp", "(x + at, count)) > bound);", "(x + at, count)) >= bound);"),
    ),
    fault(
        "sign-swish-slope", "the derivative of sign-swish has |u| in the place of |u|/2", f"{QUANTIZER}",
        ("csrc/quantizer/curves.hpp", "I::fma(0.5f * a * share", "I::fma(a * share"),
    ),
    fault(
        "last-part", "the last part of shared work is left undone",
        f"{LINEAR} kernels/test_many_callers.py {QUANTIZER}",
        ("csrc/runtime/openmp_threads.cpp", "< parts.count;) parts", "< parts.count - 1;) parts"),
    ),
)  # fmt: skip

KERNEL_FAULTS = (*SIGNS, *PRODUCTS, *CONVOLUTIONS, *OUTPUTS, *FLOAT_PRODUCTS, *LATENTS_AND_THREADS)

CPP = "kernels/test_in_cpp.py"
EMULATED: tuple[Fault, ...] = (
    fault(
        "amx-tail-of-a-row", "AMX, signs: entries behind the last one of a row are multiplied", CPP,
        ("csrc/binary/amx.cpp", "j * SPAN, least(SPAN, entries - j * SPAN)}", "j * SPAN, SPAN}"),
        ("csrc/binary/amx.cpp", "j * SPAN, least(SPAN, rows.entries - j * SPAN)}", "j * SPAN, SPAN}"),
    ),
    fault(
        "amx-sums-of-the-next-rows", "AMX, weights of signs: rows are written from the sums of the next ones", CPP,
        ("csrc/isa/tile_products.hpp", "put(row - part, sums[which ^ 1])", "put(row - part, sums[which])"),
    ),
    fault(
        "amx-carry", "AMX, float convolutions: the highest digit of a number gets no carry", CPP,
        ("csrc/float_conv/digits.cpp", "_mm512_set1_epi32(0x808080)", "_mm512_set1_epi32(0x800080)"),
    ),
    fault(
        "amx-keys-behind-the-last", "AMX, attention: a key behind the last one has a weight", CPP,
        ("csrc/attention/softmax.hpp", "most(tail_ - 16, 0)", "most(tail_ - 15, 0)"),
    ),
    fault(
        "neon-full-counts", "NEON: counts of differing bits overflow before they are emptied", CPP,
        ("csrc/isa/neon.cpp", "limit = 31;", "limit = 33;"),
        ("csrc/isa/table.hpp", "limit = 31;", "limit = 33;"),
    ),
)  # fmt: skip
