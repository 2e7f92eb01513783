// The C interface of the kernels. Rows of signs are words of 64 bits: bit i of word j is entry 64j + i, 1 for +1, and
// the bits after the last entry are 0. Every function that computes takes the instruction set that it is to use and
// returns a Status. No function throws.
//
// Arrays and padded images have fewer than 2^48 entries. Where sums are of 32 bits, the length of a row of the weight has
// a bound, which the comment of each function names. The functions check neither.
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

// AMX is AVX-512 and tiles; AVX512 never uses tiles.
enum InstructionSet { PORTABLE = 0, AVX2 = 1, AVX512 = 2, NEON = 3, AMX = 4 };
enum Overflow { NEVER = 0, WRAP = 1, SATURATE = 2, CYCLIC = 3 };

// How the integer sum z of ±1 products becomes an output of channel n: what an accumulator of `bits` bits holds of it,
// times scale[n], plus bias[n]. Null for no scale and no bias; `scales` is 1 for one that all channels share.
struct Output {
    int32_t overflow;
    int32_t bits;
    float slope;
    int64_t scales;
    const float* scale;
    const float* bias;
};

// Writes the size of Output, Step, Signs, Fused, Window, Affine, Geometry and Attention, each followed by the offsets
// of its fields in order, but at most `count` numbers. Returns how many numbers there are.
PROXCONNECT_API int32_t px_layout(int64_t* numbers, int32_t count);

// Whether this machine runs an instruction set.
PROXCONNECT_API int32_t px_supports(int32_t isa);

// The signs of x (m, entries), `stride` floats from row to row, times the n rows of a weight, through `output`: y is
// (m, n). The weight lies in panels of eight rows, (⌈n/8⌉, words, 8), those beyond the last row 0. sign(±0) = +1; a row
// that holds NaN, which has no sign, becomes NaN. `entries` is below 2^31.
PROXCONNECT_API int32_t px_binary_linear(int32_t isa, const float* x, int64_t m, int64_t entries, int64_t stride,
                                         const uint64_t* panels, int64_t n, const Output* output, float* y,
                                         int32_t threads);

// A convolution over images of `channels` and size (height, width); pairs are of height and width. Channels, pixels,
// rows and images lie channel_stride, pixel_stride, row_stride and image_stride floats apart; where channels do not
// follow each other, rows must. The border is nothing where `border` is 0, else of that sign. With `has_planes` outputs
// are (batch, out channels, out height, out width), else (batch, out height, out width, out channels). What
// `input_shift` has, if not null, is added to the channels of floats before their signs are taken; it has 80 entries
// beyond the channels, which are the first again.
struct Geometry {
    int64_t batch, channels, size[2], out_channels, out_size[2], kernel[2], stride[2], padding[2], dilation[2], groups;
    int64_t image_stride, channel_stride, row_stride, pixel_stride;
    int32_t border, has_planes;
    const float* input_shift;
};

// The signs of images x, convolved with a weight of signs, through `output`. A row of the weight is (kernel height,
// kernel width, channels of a group), and lies in panels for each group, (groups, ⌈out/groups/8⌉, words, 8). But where
// there are several groups, each of fewer than 64 channels and 32 outputs, the weight is (kernel height, kernel width,
// channels of a group, ⌈out/64⌉): bits of all output channels. NaN makes NaN of every output that it reaches. A row of
// the weight has fewer than 2^31 entries.
PROXCONNECT_API int32_t px_binary_conv2d(int32_t isa, const float* x, const Geometry* geometry, const uint64_t* panels,
                                         const Output* output, float* y, int32_t threads);

// What is done to a float v of channel n, after its bias; NaN stays NaN.
enum StepKind {
    AFFINE = 0,  // v·a[n] + b[n], rounded once
    CLAMP = 1,   // low where v < low, high where v > high
    SLOPE = 2,   // a[n]·v unless v > 0
    ADD = 3      // v + what lies at the same place of the next of the other tensors
};

struct Step {
    int32_t kind;
    float low, high;
    const float *a, *b;
};

// The sign that an integer sum z becomes, after the accumulator (of a cyclic one, what it wraps): +1 where an odd number
// of intervals holds it, those of channel n, of which each holds z where z - low[n], modulo 2^32, is below width[n].
// Intervals lie channels + 80 entries apart.
struct Signs {
    int64_t intervals;
    const int32_t* low;
    const uint32_t* width;
};

// Outputs that become signs where those are not null, and else take the steps. What has an entry for each channel,
// scale and bias included, neither of them null, has 80 beyond, which are the first again.
struct Fused {
    Output output;
    int64_t step_count;
    const Step* steps;
    const Signs* signs;
};

// Inputs whose signs are taken, or `words`, which are signs, ⌈channels/64⌉ for a pixel or a row; then `nan`, if not
// null, marks those that are NaN.
struct Signed {
    const float* x;
    const uint64_t* words;
    const uint8_t* nan;
};

// px_binary_linear and px_binary_conv2d of either, and into either: `output` is floats, or words, which lie as those of
// inputs do, and `nan`, if not null, tells which rows or pixels of words are NaN. Rows of words follow each other;
// strides of images of words count words, and their channel_stride is 1. `others` are where the tensors that are added
// begin, which lie as the output does; `has_planes` must be 0. The bounds are those of the two functions. Returns
// NOT_TAKEN where words are written, inputs hold NaN and `nan` is null.
PROXCONNECT_API int32_t px_fused_linear(int32_t isa, const float* x, const uint64_t* words, const uint8_t* input_nan,
                                        int64_t m, int64_t entries, int64_t stride, const uint64_t* panels, int64_t n,
                                        const Fused* fused, const float* const* others, void* output, uint8_t* nan,
                                        int32_t threads);
PROXCONNECT_API int32_t px_fused_conv2d(int32_t isa, const float* x, const uint64_t* words, const uint8_t* input_nan,
                                        const Geometry* geometry, const uint64_t* panels, const Fused* fused,
                                        const float* const* others, void* output, uint8_t* nan, int32_t threads);

// y = the steps of x, both (m, channels), without scale and bias; y may be x.
PROXCONNECT_API int32_t px_finish(int32_t isa, const float* x, int64_t m, int64_t channels, const Fused* fused,
                                  const float* const* others, float* y, int32_t threads);

// Windows over images; pairs are of height and width. Each window meets a pixel.
struct Window {
    int64_t size[2], out_size[2], kernel[2], stride[2], padding[2];
};

// The largest of the steps of x, (batch, height, width, channels), under each window, or NaN where one is: y is (batch,
// out height, out width, channels). No step may add another tensor.
PROXCONNECT_API int32_t px_finish_max_pool2d(int32_t isa, const float* x, int64_t batch, int64_t channels,
                                             const Window* window, const Fused* fused, float* y, int32_t threads);

// How a sum becomes an output of channel n: times scale[n], plus bias[n]. Null for none; `scales` is 0, 1 or all.
struct Affine {
    int64_t scales;
    const float* scale;
    const float* bias;
};

// Floats x (m, entries), `stride` from row to row, times the n rows of a weight of signs, which lies in panels as
// above: y is (m, n), through `affine`. Sums are of floats, in any order, or of whole steps of a row, to which its
// entries are rounded: 2^-22 of the power of two at or below the largest. `entries` has no bound.
PROXCONNECT_API int32_t px_weight_only_linear(int32_t isa, const float* x, int64_t m, int64_t entries, int64_t stride,
                                              const uint64_t* panels, int64_t n, const Affine* affine, float* y,
                                              int32_t threads);

// The same of x rounded: row x is s·q, s = max(max |x|, 2^-100) / 127 and q whole numbers within ±127, whose sums are
// exact, then multiplied by s. A row that holds inf or NaN becomes NaN. `entries` is at most 2^24.
PROXCONNECT_API int32_t px_dynamic_int8_linear(int32_t isa, const float* x, int64_t m, int64_t entries, int64_t stride,
                                               const uint64_t* panels, int64_t n, const Affine* affine, float* y,
                                               int32_t threads);

// Either of them, of x rounded if `rounds`, whose outputs take steps: `fused` has no signs and no accumulator, `others`
// are as of px_fused_linear. `entries` is at most 2^24 if `rounds`.
PROXCONNECT_API int32_t px_fused_float_linear(int32_t isa, int32_t rounds, const float* x, int64_t m, int64_t entries,
                                              int64_t stride, const uint64_t* panels, int64_t n, const Fused* fused,
                                              const float* const* others, float* y, int32_t threads);

// Floats of images, whose rows follow each other, convolved with a weight of signs, through `affine`: y is (batch, out
// height, out width, out channels), beyond the border are zeros, and `border` and `has_planes` must be 0. The weight is
// that of px_binary_conv2d, in panels for any groups.
PROXCONNECT_API int32_t px_weight_only_conv2d(int32_t isa, const float* x, const Geometry* geometry,
                                              const uint64_t* panels, const Affine* affine, float* y, int32_t threads);

// The same of x rounded: each patch of an image, of one group, is a row of px_dynamic_int8_linear, with its bound.
PROXCONNECT_API int32_t px_dynamic_int8_conv2d(int32_t isa, const float* x, const Geometry* geometry,
                                               const uint64_t* panels, const Affine* affine, float* y,
                                               int32_t threads);

// Floats x (m, entries), `stride` from row to row, rounded as above, times the n rows of a weight of whole numbers within
// ±127, through `affine`: y is (m, n). The weight lies in blocks of 16 outputs: for each piece of a patch, here there is
// one of all entries, (⌈length/64⌉, 16, 16 outputs, 4), 0 beyond the last entry and output; then 16 int32, 128 times
// each output's sum. `entries` is at most 2^17.
PROXCONNECT_API int32_t px_int8_linear(int32_t isa, const float* x, int64_t m, int64_t entries, int64_t stride,
                                       const int8_t* panels, int64_t n, const Affine* affine, float* y,
                                       int32_t threads);

// The same, whose outputs take steps: `fused` without signs and accumulator, `others` as of px_fused_linear. `entries`
// is at most 2^17.
PROXCONNECT_API int32_t px_fused_int8_linear(int32_t isa, const float* x, int64_t m, int64_t entries, int64_t stride,
                                             const int8_t* panels, int64_t n, const Fused* fused,
                                             const float* const* others, float* y, int32_t threads);

// Images of floats, each rounded by one step, convolved in one group with such a weight. The pieces of a patch are the
// rows of the kernel, (kernel width, channels), or its taps where they lie apart. `border` must be 0. A row of the weight
// has at most 2^17 entries.
PROXCONNECT_API int32_t px_int8_conv2d(int32_t isa, const float* x, const Geometry* geometry, const int8_t* panels,
                                       const Affine* affine, float* y, int32_t threads);

// The same of the means of windows of the images, if `mean` is not null, within which no window has a border, in one pass
// with what follows: `fused` without signs and accumulator, and if `pool` is not null the largest under its windows; then
// no step may add another tensor. The geometry has the size of the means, but the strides of x, any of them; `has_planes`
// must be 0. The bound is the same.
PROXCONNECT_API int32_t px_fused_int8_conv2d(int32_t isa, const float* x, const Window* mean, const Geometry* geometry,
                                             const int8_t* panels, const Fused* fused, const float* const* others,
                                             const Window* pool, float* y, int32_t threads);

// The same of floats as weight, both in fixed point of three bytes, of signed digits: q = d2·2^16 + d1·2^8 + d0. An
// image has a step of max |x| / 8355710. Of a weight w each block of outputs is four blocks of whole numbers, whose
// channels are three for each of the image, one after the other: (0, 0, w2), (0, w2, w1), (w2, w1, w0) and (w1, w0, 0).
// `scale` is 2^8 times the weight's steps. At most 2^15 entries are summed. Returns LACKS_INSTRUCTIONS where this
// machine has it not, and NOT_TAKEN for an image that holds inf or NaN, or whose largest |x| is no 0 and beyond 2^±60,
// or more than 256 times the mean |x|.
PROXCONNECT_API int32_t px_fused_float_conv2d(int32_t isa, const float* x, const Window* mean, const Geometry* geometry,
                                              const int8_t* panels, const Fused* fused, const float* const* others,
                                              const Window* pool, float* y, int32_t threads);

// Queries, keys and values of heads, `width` entries each that follow each other; strides, in floats, are from batch to
// batch, from head to head and from token to token.
struct Attention {
    int64_t batch, heads, queries, keys, width;
    int64_t q_strides[3], k_strides[3], v_strides[3];
    float scale;
};

// softmax(scale · Q Kᵀ) V of each head: y is (batch, queries, heads, width). Each factor of a product is split into
// three of 8 bits, of whose nine products the six largest are summed in float32; an error is that of sums of floats.
// `keys` is above 0, `width` a multiple of 16 and `scale` above 0. Returns LACKS_INSTRUCTIONS for every set but AMX, and
// where the machine has no AMX with bfloat16, and NOT_TAKEN where an entry is NaN, or so large that a score might reach
// 2^20/log2(e), or an entry of V 1e30.
PROXCONNECT_API int32_t px_attention(int32_t isa, const float* q, const float* k, const float* v,
                                     const Attention* attention, float* y, int32_t threads);

// Curves of pairs: F is one, and B the derivative of the same or of another. Those from PROXCONNECT on have none here;
// as a derivative, SIGN stands for B = 1, or for 1 within ±1 and 0 beyond.
enum Curve {
    SIGN = 0, CLIP = 1, POLYNOMIAL = 2, TANH = 3, ERROR_DECAY = 4, SIGN_SWISH = 5, PROXCONNECT = 6, BINARYRELAX = 7
};

// y = α·F(x/ᾱ) for each row of x, `columns` entries and the last what is left of `entries`: ᾱ = mean |x| and
// α = ⟨x, F⟩/⟨F, F⟩; (α/ᾱ)·F where `is_unit`. float32, or bfloat16 where that is set. Written to `statistics` are for
// each row the divisor, ᾱ or in the place of 0 1, and after those of all rows the factors, α/ᾱ, or (α/ᾱ)/ᾱ where
// `is_unit`; null is for y = F(x). Written to `inside`, if not null, is for each entry whether |x| <= ᾱ, or NaN.
PROXCONNECT_API int32_t px_quantize(int32_t isa, int32_t is_bfloat16, int32_t curve, int32_t is_unit, float mu,
                                    int64_t entries, int64_t columns, const void* x, void* y, float* statistics,
                                    uint8_t* inside, int32_t threads);

// y = factor·B(x/divisor)·g, with B of `derivative`, or of `inside` where that is SIGN.
PROXCONNECT_API int32_t px_quantize_backward(int32_t isa, int32_t is_bfloat16, int32_t derivative, float mu,
                                             int64_t entries, int64_t columns, const void* x, const void* g,
                                             const float* statistics, const uint8_t* inside, void* y, int32_t threads);
