"""The compiled library: where it is, and which instruction sets of it this machine runs."""

import ctypes
from functools import cache
from pathlib import Path

from proxconnect.kernels.limit import allowed
from proxconnect.kernels.statuses import checked

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


_STRUCTURES = (Output, Step, Signs, Fused, Window, Affine, Geometry, Attention)

_INT, _LONG, _POINTER = ctypes.c_int32, ctypes.c_int64, ctypes.c_void_p
_ARGUMENTS = {
    "px_layout": (ctypes.POINTER(_LONG), _INT),
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

_QUESTIONS = {"px_layout", "px_supports"}
"""The functions that return numbers, or yes or no; the others return a status."""


def _check_statuses(loaded: ctypes.CDLL) -> None:
    """Have the functions of the library raise what their statuses say."""
    for name in _ARGUMENTS.keys() - _QUESTIONS:
        getattr(loaded, name).errcheck = checked


@cache
def library() -> ctypes.CDLL | None:
    """Load the library, or return None where it was not built.

    Raises:
        RuntimeError: The library was built from other sources than this package.
    """
    import proxconnect.kernels

    for folder in proxconnect.kernels.__path__:
        file = Path(folder) / FILE
        if file.is_file():
            loaded = ctypes.CDLL(str(file))
            _require_same_interface(loaded)
            _check_statuses(loaded)
            return loaded
    return None


def _require_same_interface(loaded: ctypes.CDLL) -> None:
    """Declare the library's functions; raise RuntimeError unless it has them and the structures above."""
    expected = _layout()
    found = (ctypes.c_int64 * len(expected))()
    try:
        for name, arguments in _ARGUMENTS.items():
            function = getattr(loaded, name)
            function.argtypes, function.restype = arguments, ctypes.c_int32
        is_same = loaded.px_layout(found, len(found)) == len(found) and list(found) == expected
    except AttributeError:
        is_same = False
    if not is_same:
        raise RuntimeError(
            f"{loaded._name} was built from other sources than this version of proxconnect: install proxconnect again"
        )


def _layout() -> list[int]:
    """Return the size of each structure and the offsets of its fields, as `px_layout` writes them."""
    numbers = []
    for structure in _STRUCTURES:
        numbers += [ctypes.sizeof(structure), *(getattr(structure, field[0]).offset for field in structure._fields_)]
    return numbers


def is_built() -> bool:
    """Whether the kernels were built with this installation of the package."""
    return library() is not None


@cache
def instruction_sets() -> tuple[str, ...]:
    """The instruction sets that the kernels may use on this machine, the best last; none if they were not built.

    The environment variable PROXCONNECT_INSTRUCTION_SET names the best that they may use. It is read once.

    Raises:
        ValueError: the variable names a set that this machine lacks.
    """
    loaded = library()
    if loaded is None:
        return ()
    return allowed(tuple(name for name, number in NUMBERS.items() if loaded.px_supports(number)))


@cache
def has_float_conv() -> bool:
    """Whether this machine has kernels for float convolutions, in fixed point: it takes AMX."""
    return "amx" in instruction_sets()
