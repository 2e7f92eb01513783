// The C interface of the kernels. Rows of signs are words of 64 bits. Bit i of word j is entry 64j + i, 1 for +1, and
// bits after the last entry are 0. Every function that computes takes an instruction set and returns a Status. No
// function throws.
//
// Arrays and padded images must have fewer than 2^48 entries. Sums of 32 bits bound the length of a row of the weight;
// the comment of each function gives the bound. The functions check neither.
#pragma once

#include <cstdint>

#if defined(_WIN32)
#define PROXCONNECT_API extern "C" __declspec(dllexport)
#else
#define PROXCONNECT_API extern "C" __attribute__((visibility("default")))
#endif

enum Status {
    DONE = 0,
    LACKS_INSTRUCTIONS = 1,  // of this machine; outputs are as they were
    NOT_TAKEN = 2,           // inputs that the function's comment excludes; outputs are undefined
    OUT_OF_MEMORY = 3        // outputs are undefined; the next call works
};

// AVX512_VNNI lacks the instructions of AVX512 that count bits. AMX is AVX512 and tiles; AVX512 never uses tiles.
enum InstructionSet { PORTABLE = 0, AVX2 = 1, AVX512_VNNI = 5, AVX512 = 2, NEON = 3, AMX = 4 };
enum Overflow { NEVER = 0, WRAP = 1, SATURATE = 2, CYCLIC = 3 };

// How a sum becomes an output of channel n: times scale[n], plus bias[n]. Sums of ±1 products are integers. They become
// the value of an accumulator of `bits` bits first. `scale` has `scales` entries: one for all channels, one for each, or
// 80 more, which repeat the first. Then `bias` has as many, too, and the kernels read both where they are. Otherwise
// they are copied for the call, and a null scale or bias is left out. `scales` is 0 for a null scale.
//
// Only px_weight_only_linear takes a `group` other than 0. Before all of that, it multiplies the sum of every `group`
// entries by a scale. Scales are (⌈n/32⌉, groups, 32 outputs), of which those after output n are read and not used. They
// are floats in `group_scale` or, if that is null, numbers of 16 bits as IEEE 754 has them in `half_group_scale`.
struct Output {
    int32_t overflow;
    int32_t bits;
    float slope;
    int64_t scales;
    const float* scale;
    const float* bias;
    int64_t group = 0;
    const float* group_scale = nullptr;
    const uint16_t* half_group_scale = nullptr;
};

// Write the size of Output, Step, Signs, Fused, Window, Geometry, Attention, LayerNorm, DecoderProduct, Decoder and
// DecoderCache, each followed by the offsets of its fields in order, but at most `count` numbers. Return how many numbers there are.
PROXCONNECT_API int32_t px_layout(int64_t* numbers, int32_t count);

// Return 1 if this machine runs an instruction set, else 0.
PROXCONNECT_API int32_t px_supports(int32_t isa);

// Lay out a binary weight for the functions below: (groups, outputs, channels, taps), bit i of byte j entry 8j + i. Its
// panels are (groups, ⌈outputs/8⌉, words, 8), from rows (taps, channels) of fewer than 2^31 entries if taps > 1.
PROXCONNECT_API int32_t px_prepack_signs(int32_t isa, const uint8_t* bits, int64_t groups, int64_t outputs,
                                         int64_t channels, int64_t taps, uint64_t* panels, int32_t threads);

// A convolution over images of `channels` and size (height, width). Pairs are of height and width. Channels, pixels,
// rows and images are channel_stride, pixel_stride, row_stride and image_stride floats apart. If channels are not
// adjacent, rows must be. The border is 0 if `border` is 0, else of its sign. Outputs are (batch, out channels, out
// height, out width) with `has_planes`, else (batch, out height, out width, out channels). `input_shift`, if not null,
// is added to the channels of floats before their signs are taken. It has 80 more entries, which repeat the first.
struct Geometry {
    int64_t batch, channels, size[2], out_channels, out_size[2], kernel[2], stride[2], padding[2], dilation[2], groups;
    int64_t image_stride, channel_stride, row_stride, pixel_stride;
    int32_t border, has_planes;
    const float* input_shift;
};

// An epilogue step on a float v of channel n, after its bias. NaN stays NaN.
enum StepKind {
    AFFINE = 0,  // v·a[n] + b[n], rounded once
    CLAMP = 1,   // low where v < low, high where v > high
    SLOPE = 2,   // a[n]·v unless v > 0
    ADD = 3,     // v + what lies at the same place of the next of the other tensors
    GELU = 4     // v·Φ(v), within 3e-7·max(1, |v|), the same on all instruction sets; 0 where v is -inf
};

struct Step {
    int32_t kind;
    float low, high;
    const float *a, *b;
};

// The sign that an integer sum z becomes, after the accumulator (for a cyclic one, after its wrap). It is +1 if an odd
// number of the intervals of channel n contains z. An interval contains z if z - low[n], modulo 2^32, is below
// width[n]. Intervals are channels + 80 entries apart.
struct Signs {
    int64_t intervals;
    const int32_t* low;
    const uint32_t* width;
};

// Outputs that become signs if `signs` is not null, and otherwise take the steps, if any. Arrays with an entry for each
// channel have 80 more entries, which repeat the first.
struct Fused {
    Output output;
    int64_t step_count;
    const Step* steps;
    const Signs* signs;
};

// Inputs: floats x whose signs are taken, or `words` of signs, ⌈channels/64⌉ for a pixel or a row. `nan`, if not null,
// then marks those that are NaN.
struct Signed {
    const float* x;
    const uint64_t* words;
    const uint8_t* nan;
};

// Multiply the signs of x (m, entries), `stride` floats from row to row, by the n rows of a binary weight. The weight is
// stored in panels of eight rows, (⌈n/8⌉, words, 8); rows after the last are 0. sign(±0) = +1. A row that contains NaN,
// which has no sign, becomes NaN. `entries` must be below 2^31.
//
// `output` is (m, n) floats, or words in the layout of inputs. `nan`, if not null, receives the rows of words that are
// NaN. Rows of words are adjacent. `others` has the begins of the tensors that are added, in the layout of the output.
// Return NOT_TAKEN if words are written, inputs contain NaN and `nan` is null.
PROXCONNECT_API int32_t px_binary_linear(int32_t isa, const float* x, const uint64_t* words, const uint8_t* input_nan,
                                         int64_t m, int64_t entries, int64_t stride, const uint64_t* panels, int64_t n,
                                         const Fused* fused, const float* const* others, uint8_t* nan, void* output,
                                         int32_t threads);

// Convolve the signs of images with a binary weight. A row of the weight is (kernel height, kernel width, channels of a
// group), in panels for each group, (groups, ⌈out/groups/8⌉, words, 8). With several groups of fewer than 64 channels
// and 32 outputs each, the weight is instead (kernel height, kernel width, channels of a group, ⌈out/64⌉): bits of all
// output channels. Every output that reads NaN is NaN. A row of the weight must have fewer than 2^31 entries.
//
// `others`, `output` and `nan` are those of px_binary_linear, with pixels for rows. Strides of images of words count
// words, and their channel_stride is 1. If words are written or tensors are added, `has_planes` must be 0.
PROXCONNECT_API int32_t px_binary_conv2d(int32_t isa, const float* x, const uint64_t* words, const uint8_t* input_nan,
                                         const Geometry* geometry, const uint64_t* panels, const Fused* fused,
                                         const float* const* others, uint8_t* nan, void* output, int32_t threads);

// y = the steps of x, both (m, channels), without scale and bias. y may be x.
PROXCONNECT_API int32_t px_finish(int32_t isa, const float* x, int64_t m, int64_t channels, const Fused* fused,
                                  const float* const* others, float* y, int32_t threads);

// Rows of `width` entries, at least 1. The weight and the bias have as many.
struct LayerNorm {
    int64_t width;
    const float *weight, *bias;
    float eps;
};

// y = (x - mean) / sqrt(variance + eps) · weight + bias, of rows (m, width), up to rounding. y may be x.
PROXCONNECT_API int32_t px_layer_norm(int32_t isa, const float* x, int64_t m, const LayerNorm* norm, float* y,
                                      int32_t threads);

// Windows over images. Pairs are of height and width. Each window contains a pixel.
struct Window {
    int64_t size[2], out_size[2], kernel[2], stride[2], padding[2];
};

// Apply the steps to x, (batch, height, width, channels), and take the largest under each window, or NaN if one is. y
// is (batch, out height, out width, channels). No step may add another tensor.
PROXCONNECT_API int32_t px_finish_max_pool2d(int32_t isa, const float* x, int64_t batch, int64_t channels,
                                             const Window* window, const Fused* fused, float* y, int32_t threads);

// y, (batch, channels), = the means over all pixels of x, (batch, pixels, channels), added in the order of torch's CPU
// kernels: 16 pixels in a sum, 16 sums in the next. `channels` is a multiple of 64, `pixels` at least 1.
PROXCONNECT_API int32_t px_pixel_means(int32_t isa, const float* x, int64_t batch, int64_t pixels, int64_t channels,
                                       float* y, int32_t threads);

// Multiply floats x (m, entries), `stride` from row to row, by the n rows of a binary weight in panels as above. y is
// (m, n). `fused` has no signs and no accumulator, and its group is 0 or a multiple of 64 that divides `entries`, `others` is that of px_binary_linear. Floats are summed in any order,
// or after rounding to whole steps of their row: 2^-22 of the power of two at or below the largest entry. `entries` has
// no bound.
//
// If `rounds`, x is rounded: row x becomes s·q, with s = max(max |x|, 2^-100) / 127 and whole numbers q within ±127.
// Their sums are exact, then multiplied by s. A row that contains inf or NaN becomes NaN. `entries` must be at most
// 2^24.
PROXCONNECT_API int32_t px_weight_only_linear(int32_t isa, int32_t rounds, const float* x, int64_t m, int64_t entries,
                                              int64_t stride, const uint64_t* panels, int64_t n, const Fused* fused,
                                              const float* const* others, float* y, int32_t threads);

// Convolve floats of images with a binary weight, in one pass with means before and an epilogue after. `mean`, if not
// null, has windows without a border whose means are convolved. `pool`, if not null, has windows whose largest outputs
// are written; then no step may add another tensor. y is (batch, out height, out width, out channels). The geometry has
// the size of the means, but the strides of x, which may be any. The border is zeros, and `border` and `has_planes` must
// be 0. The weight is that of px_binary_conv2d, but in panels for any groups.
//
// If `rounds`, x is rounded as above, but by one step for each image. Pixels that a kernel of one pixel without padding
// skips are not part of the image. All outputs of an image that contains inf or NaN become NaN.
PROXCONNECT_API int32_t px_weight_only_conv2d(int32_t isa, int32_t rounds, const float* x, const Window* mean,
                                              const Geometry* geometry, const uint64_t* panels, const Fused* fused,
                                              const float* const* others, const Window* pool, float* y,
                                              int32_t threads);

// Multiply floats x (m, entries), `stride` from row to row, rounded as above, by the n rows of a weight of whole
// numbers within ±127. y is (m, n). The weight is stored in blocks of 16 outputs, (⌈length/64⌉, 16, 16 outputs, 4) for
// each piece of a patch, 0 after the last entry and output. Here all entries are one piece. After these follow 16 int32:
// 128 times each output's sum. `entries` must be at most 2^17.
PROXCONNECT_API int32_t px_int8_linear(int32_t isa, const float* x, int64_t m, int64_t entries, int64_t stride,
                                       const int8_t* panels, int64_t n, const Fused* fused, const float* const* others,
                                       float* y, int32_t threads);

// Convolve images of floats, each rounded by one step, in one group with such a weight, in one pass as
// px_weight_only_conv2d. The pieces of a patch are the rows of the kernel, (kernel width, channels), or single taps if
// taps are dilated. A row of the weight must have at most 2^17 entries. y may have planes if there is no pool and no
// tensor is added.
PROXCONNECT_API int32_t px_int8_conv2d(int32_t isa, const float* x, const Window* mean, const Geometry* geometry,
                                       const int8_t* panels, const Fused* fused, const float* const* others,
                                       const Window* pool, float* y, int32_t threads);

// The same with a weight of floats. For AVX2 and AVX512 it is stored in blocks of 16 outputs, (height · width ·
// channels, 16 outputs), 0 after the last output. Products are added in this order, each sum rounded once. Rows of the
// weight have no bound. Return LACKS_INSTRUCTIONS for PORTABLE and NEON.
//
// Several groups must have one channel and one output each. Their weight is (height · width, channels) for every
// instruction set, with the channels filled up to a multiple of 16. PORTABLE rounds products before it adds them.
//
// For AMX and one group, image and weight are in fixed point of three bytes, with signed digits: q = d2·2^16 + d1·2^8 + d0. An image
// has a step of max |x| / 8355710. Each block of outputs of a weight w is four blocks of whole numbers. They have three
// channels for each of the image, one after the other: (0, 0, w2), (0, w2, w1), (w2, w1, w0) and (w1, w0, 0). `scale`
// is 2^8 times the weight's steps. At most 2^15 entries are summed. Return NOT_TAKEN for an image that contains inf or
// NaN, or whose largest |x| is not 0 and either beyond 2^±60 or more than 256 times the mean |x|.
PROXCONNECT_API int32_t px_float_conv2d(int32_t isa, const float* x, const Window* mean, const Geometry* geometry,
                                        const void* panels, const Fused* fused, const float* const* others,
                                        const Window* pool, float* y, int32_t threads);

// Queries, keys and values of heads, with `width` adjacent entries each. Strides, in floats, are from batch to batch,
// from head to head and from token to token.
struct Attention {
    int64_t batch, heads, queries, keys, width;
    int64_t q_strides[3], k_strides[3], v_strides[3];
    float scale;
};

// softmax(scale · Q Kᵀ) V of each head, with the error of sums of floats. y is (batch, queries, heads, width). `keys`
// and `scale` must be above 0, and `width` at least 16. Return NOT_TAKEN if a score is NaN or +inf.
//
// AMX with bfloat16 splits each factor of a product into three parts of 8 bits, and sums the six largest of their nine
// products in float32. `width` must then be a multiple of 16. Return NOT_TAKEN if an entry is NaN, or so large that a
// score might reach 2^20/log2(e), or an entry of V 1e30. Return LACKS_INSTRUCTIONS for plain C++ and NEON.
PROXCONNECT_API int32_t px_attention(int32_t isa, const float* q, const float* k, const float* v,
                                     const Attention* attention, float* y, int32_t threads);

// A binary weight of a decoder layer, in panels, and how its sums become outputs, as px_weight_only_linear takes them.
struct DecoderProduct {
    const uint64_t* panels;
    int64_t outputs;
    const Fused* fused;
};

// A decoder layer of LLaMA's kind. `heads` is a multiple of `key_heads`, and `head_width` is even. Without norms of
// heads, `query_norm` and `key_norm` are null. `output` and `down` have an epilogue with one step, ADD, `rounds` is
// that of px_weight_only_linear.
struct Decoder {
    int64_t width, hidden, heads, key_heads, head_width;
    float eps, scale;
    int32_t rounds;
    const float *input_norm, *hidden_norm, *query_norm, *key_norm;
    DecoderProduct query, key, value, output, gate, up, down;
};

// Keys and values of `tokens` tokens for each sequence and head, with room for one more. Tokens of a head are adjacent.
// Strides, in floats, are from sequence to sequence and from head to head. `seen`, if not null, is (batch, tokens + 1),
// with 0 for tokens that the new one does not attend to. It attends to one at least.
struct DecoderCache {
    float *keys, *values;
    int64_t tokens, strides[2];
    const uint8_t* seen;
};

// Run the layer on one new token for each of `batch` sequences, x (batch, width), and append its key and value to the
// cache. `cosine` and `sine`, (batch, head_width), turn queries and keys:
//     h = x + output(softmax(scale · q Kᵀ) V),  y = h + down(silu(gate(n)) · up(n)),
// with n = rms_norm(h), and q, k, v from rms_norm(x). y must not be x.
PROXCONNECT_API int32_t px_decoder_layer(int32_t isa, const float* x, int64_t batch, const float* cosine,
                                         const float* sine, const DecoderCache* cache, const Decoder* decoder,
                                         float* y, int32_t threads);

// Curves of pairs: F is one, and B the derivative of the same or of another. PROXCONNECT and later ones have no
// derivative here. As a derivative, SIGN stands for B = 1, or for 1 within ±1 and 0 beyond.
enum Curve {
    SIGN = 0, CLIP = 1, POLYNOMIAL = 2, TANH = 3, ERROR_DECAY = 4, SIGN_SWISH = 5, PROXCONNECT = 6, BINARYRELAX = 7
};

// y = α·F(x/ᾱ) for each row of x, with ᾱ = mean |x| and α = ⟨x, F⟩/⟨F, F⟩; (α/ᾱ)·F if `is_unit`. Rows have `columns`
// entries, and the last the rest of `entries`. Entries are float32, or bfloat16 if `is_bfloat16`. `statistics` receives
// the divisor of each row, ᾱ or 1 in place of 0, then the factor of each row, α/ᾱ, or (α/ᾱ)/ᾱ if `is_unit`. If it is
// null, y = F(x). `inside`, if not null, receives for each entry whether |x| <= ᾱ or NaN.
PROXCONNECT_API int32_t px_quantize(int32_t isa, int32_t is_bfloat16, int32_t curve, int32_t is_unit, float mu,
                                    int64_t entries, int64_t columns, const void* x, void* y, float* statistics,
                                    uint8_t* inside, int32_t threads);

// y = factor·B(x/divisor)·g, with B of `derivative`, or from `inside` if that is SIGN.
PROXCONNECT_API int32_t px_quantize_backward(int32_t isa, int32_t is_bfloat16, int32_t derivative, float mu,
                                             int64_t entries, int64_t columns, const void* x, const void* g,
                                             const float* statistics, const uint8_t* inside, void* y, int32_t threads);
