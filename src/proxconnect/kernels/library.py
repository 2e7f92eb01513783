"""The compiled library: where it is, and which instruction sets of it this machine runs."""

import ctypes
from functools import cache
from pathlib import Path

FILE = "kernels.so"

NUMBERS = {"portable": 0, "avx2": 1, "avx512": 2, "amx": 4, "neon": 3}
"""The instruction sets by name, worst first, as `csrc/proxconnect.h` numbers them."""


class Output(ctypes.Structure):
    """How a sum of ±1 products becomes an output, as `csrc/proxconnect.h` has it."""

    _fields_ = (
        ("overflow", ctypes.c_int32),
        ("bits", ctypes.c_int32),
        ("slope", ctypes.c_float),
        ("scales", ctypes.c_int64),
        ("scale", ctypes.c_void_p),
        ("bias", ctypes.c_void_p),
    )


class Affine(ctypes.Structure):
    """The scale and the bias of an output, as `csrc/proxconnect.h` has them."""

    _fields_ = (("scales", ctypes.c_int64), ("scale", ctypes.c_void_p), ("bias", ctypes.c_void_p))


class Step(ctypes.Structure):
    """What is done to a float of each channel, as `csrc/proxconnect.h` has it."""

    _fields_ = (
        ("kind", ctypes.c_int32),
        ("low", ctypes.c_float),
        ("high", ctypes.c_float),
        ("a", ctypes.c_void_p),
        ("b", ctypes.c_void_p),
    )


class Signs(ctypes.Structure):
    """Intervals of integers, one for each channel, as `csrc/proxconnect.h` has them."""

    _fields_ = (("intervals", ctypes.c_int64), ("low", ctypes.c_void_p), ("width", ctypes.c_void_p))


class Fused(ctypes.Structure):
    """An output and what becomes of it, as `csrc/proxconnect.h` has it."""

    _fields_ = (
        ("output", Output),
        ("step_count", ctypes.c_int64),
        ("steps", ctypes.POINTER(Step)),
        ("signs", ctypes.POINTER(Signs)),
    )


class Window(ctypes.Structure):
    """Windows over images, as `csrc/proxconnect.h` has them."""

    _fields_ = tuple((name, ctypes.c_int64 * 2) for name in ("size", "out_size", "kernel", "stride", "padding"))


class Geometry(ctypes.Structure):
    """A convolution, as `csrc/proxconnect.h` has it."""

    _fields_ = (
        ("batch", ctypes.c_int64),
        ("channels", ctypes.c_int64),
        ("size", ctypes.c_int64 * 2),
        ("out_channels", ctypes.c_int64),
        ("out_size", ctypes.c_int64 * 2),
        ("kernel", ctypes.c_int64 * 2),
        ("stride", ctypes.c_int64 * 2),
        ("padding", ctypes.c_int64 * 2),
        ("dilation", ctypes.c_int64 * 2),
        ("groups", ctypes.c_int64),
        ("image_stride", ctypes.c_int64),
        ("channel_stride", ctypes.c_int64),
        ("row_stride", ctypes.c_int64),
        ("pixel_stride", ctypes.c_int64),
        ("border", ctypes.c_int32),
        ("has_planes", ctypes.c_int32),
        ("input_shift", ctypes.c_void_p),
    )


class Attention(ctypes.Structure):
    """Queries, keys and values of heads, as `csrc/proxconnect.h` has them."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in ("batch", "heads", "queries", "keys", "width")),
        *((name, ctypes.c_int64 * 3) for name in ("q_strides", "k_strides", "v_strides")),
        ("scale", ctypes.c_float),
    )


_INT, _LONG, _POINTER = ctypes.c_int32, ctypes.c_int64, ctypes.c_void_p
_ARGUMENTS = {
    "px_supports": (_INT,),
    "px_binary_linear": (
        _INT, _POINTER, _LONG, _LONG, _LONG, _POINTER, _LONG, ctypes.POINTER(Output), _POINTER, _INT,
    ),
    "px_binary_conv2d": (
        _INT, _POINTER, ctypes.POINTER(Geometry), _POINTER, ctypes.POINTER(Output), _POINTER, _INT,
    ),
    "px_fused_linear": (
        _INT, *[_POINTER] * 3, *[_LONG] * 3, _POINTER, _LONG, *[_POINTER] * 4, _INT,
    ),
    "px_fused_conv2d": (
        _INT, *[_POINTER] * 3, ctypes.POINTER(Geometry), *[_POINTER] * 5, _INT,
    ),
    "px_finish": (
        _INT, _POINTER, _LONG, _LONG, *[_POINTER] * 3, _INT,
    ),
    "px_finish_max_pool2d": (
        _INT, _POINTER, _LONG, _LONG, ctypes.POINTER(Window), *[_POINTER] * 2, _INT,
    ),
    "px_weight_only_linear": (
        _INT, _POINTER, _LONG, _LONG, _LONG, _POINTER, _LONG, ctypes.POINTER(Affine), _POINTER, _INT,
    ),
    "px_dynamic_int8_linear": (
        _INT, _POINTER, _LONG, _LONG, _LONG, _POINTER, _LONG, ctypes.POINTER(Affine), _POINTER, _INT,
    ),
    "px_fused_float_linear": (
        _INT, _INT, _POINTER, *[_LONG] * 3, _POINTER, _LONG, *[_POINTER] * 3, _INT,
    ),
    "px_weight_only_conv2d": (
        _INT, _POINTER, ctypes.POINTER(Geometry), _POINTER, ctypes.POINTER(Affine), _POINTER, _INT,
    ),
    "px_dynamic_int8_conv2d": (
        _INT, _POINTER, ctypes.POINTER(Geometry), _POINTER, ctypes.POINTER(Affine), _POINTER, _INT,
    ),
    "px_int8_linear": (
        _INT, _POINTER, _LONG, _LONG, _LONG, _POINTER, _LONG, ctypes.POINTER(Affine), _POINTER, _INT,
    ),
    "px_int8_conv2d": (
        _INT, _POINTER, ctypes.POINTER(Geometry), _POINTER, ctypes.POINTER(Affine), _POINTER, _INT,
    ),
    "px_fused_int8_linear": (
        _INT, _POINTER, *[_LONG] * 3, _POINTER, _LONG, *[_POINTER] * 3, _INT,
    ),
    "px_fused_int8_conv2d": (
        _INT, _POINTER, ctypes.POINTER(Window), ctypes.POINTER(Geometry), *[_POINTER] * 3, ctypes.POINTER(Window),
        _POINTER, _INT,
    ),
    "px_attention": (
        _INT, *[_POINTER] * 3, ctypes.POINTER(Attention), _POINTER, _INT,
    ),
    "px_fused_float_conv2d": (
        _INT, _POINTER, ctypes.POINTER(Window), ctypes.POINTER(Geometry), *[_POINTER] * 3, ctypes.POINTER(Window),
        _POINTER, _INT,
    ),
    "px_quantize": (
        _INT, _INT, _INT, _INT, ctypes.c_float, _LONG, _LONG, *[_POINTER] * 4, _INT,
    ),
    "px_quantize_backward": (
        _INT, _INT, _INT, ctypes.c_float, _LONG, _LONG, *[_POINTER] * 5, _INT,
    ),
}  # fmt: skip


@cache
def library() -> ctypes.CDLL | None:
    """The library, or None where it was not built."""
    import proxconnect.kernels

    for folder in proxconnect.kernels.__path__:
        file = Path(folder) / FILE
        if file.is_file():
            loaded = ctypes.CDLL(str(file))
            for name, arguments in _ARGUMENTS.items():
                function = getattr(loaded, name)
                function.argtypes, function.restype = arguments, ctypes.c_int32
            return loaded
    return None


def is_built() -> bool:
    """Whether the kernels were built with this installation of the package."""
    return library() is not None


@cache
def instruction_sets() -> tuple[str, ...]:
    """The instruction sets that this machine runs, the best last; none where the kernels were not built."""
    loaded = library()
    return () if loaded is None else tuple(name for name, number in NUMBERS.items() if loaded.px_supports(number))


@cache
def has_float_conv() -> bool:
    """Whether this machine has kernels for float convolutions, in fixed point: it takes AMX."""
    return "amx" in instruction_sets()
