"""The compiled library: where it is, its C interface, and which instruction sets of it this machine runs.

The structures mirror those of `csrc/proxconnect.h`.
"""

import ctypes
import sys
from functools import cache
from pathlib import Path
from typing import Any

from proxconnect.kernels.absence import ADVICE, NOT_BUILT
from proxconnect.kernels.limit import allowed

FILE = "kernels.so"

NUMBERS = {"portable": 0, "avx2": 1, "avx512": 2, "amx": 4, "neon": 3}
"""The instruction sets by name, worst first, as `csrc/proxconnect.h` numbers them."""


class COutput(ctypes.Structure):
    """Say how a sum of ±1 products becomes an output."""

    _fields_ = (
        ("overflow", ctypes.c_int32),
        ("bits", ctypes.c_int32),
        ("slope", ctypes.c_float),
        ("scales", ctypes.c_int64),
        ("scale", ctypes.c_void_p),
        ("bias", ctypes.c_void_p),
    )


class CAffine(ctypes.Structure):
    """The scale and the bias of an output."""

    _fields_ = (("scales", ctypes.c_int64), ("scale", ctypes.c_void_p), ("bias", ctypes.c_void_p))


class CStep(ctypes.Structure):
    """One epilogue step."""

    _fields_ = (
        ("kind", ctypes.c_int32),
        ("low", ctypes.c_float),
        ("high", ctypes.c_float),
        ("a", ctypes.c_void_p),
        ("b", ctypes.c_void_p),
    )


class CSigns(ctypes.Structure):
    """Intervals of integers, one for each channel."""

    _fields_ = (("intervals", ctypes.c_int64), ("low", ctypes.c_void_p), ("width", ctypes.c_void_p))


class CFused(ctypes.Structure):
    """An output and its epilogue: steps, or intervals of sums whose sign is +1."""

    _fields_ = (
        ("output", COutput),
        ("step_count", ctypes.c_int64),
        ("steps", ctypes.POINTER(CStep)),
        ("signs", ctypes.POINTER(CSigns)),
    )


class CWindow(ctypes.Structure):
    """The windows of a pool over images."""

    _fields_ = tuple((name, ctypes.c_int64 * 2) for name in ("size", "out_size", "kernel", "stride", "padding"))


class CGeometry(ctypes.Structure):
    """A convolution, and how its input lies in memory."""

    _fields_ = (
        ("batch", ctypes.c_int64),
        ("channels", ctypes.c_int64),
        ("size", ctypes.c_int64 * 2),
        ("out_channels", ctypes.c_int64),
        *((name, ctypes.c_int64 * 2) for name in ("out_size", "kernel", "stride", "padding", "dilation")),
        ("groups", ctypes.c_int64),
        *((f"{name}_stride", ctypes.c_int64) for name in ("image", "channel", "row", "pixel")),
        ("border", ctypes.c_int32),
        ("has_planes", ctypes.c_int32),
        ("input_shift", ctypes.c_void_p),
    )


class CAttention(ctypes.Structure):
    """Queries, keys and values of heads."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in ("batch", "heads", "queries", "keys", "width")),
        *((name, ctypes.c_int64 * 3) for name in ("q_strides", "k_strides", "v_strides")),
        ("scale", ctypes.c_float),
    )


_STRUCTURES = (COutput, CStep, CSigns, CFused, CWindow, CAffine, CGeometry, CAttention)
"""In the order in which `px_layout` describes them."""

_INT, _LONG, _FLOAT, _POINTER = ctypes.c_int32, ctypes.c_int64, ctypes.c_float, ctypes.c_void_p
_GEOMETRY, _WINDOW = ctypes.POINTER(CGeometry), ctypes.POINTER(CWindow)
_ROWS = _POINTER, _LONG, _LONG, _LONG, _POINTER, _LONG
"""Input, rows, columns, stride, prepacked weight, outputs."""
_IMAGES = _POINTER, _GEOMETRY, _POINTER
"""Input, geometry, prepacked weight."""
_OUTPUT, _AFFINE = (ctypes.POINTER(COutput), _POINTER), (ctypes.POINTER(CAffine), _POINTER)
"""How sums become outputs, and where these are written."""
_FUSED = _POINTER, _POINTER, _POINTER
"""The epilogue, what is added, and where outputs are written."""
_IMAGE_PASS = _POINTER, _WINDOW, _GEOMETRY, *[_POINTER] * 3, _WINDOW, _POINTER

_FUNCTIONS: dict[str, tuple[Any, ...]] = {
    "px_binary_linear": (*_ROWS, *_OUTPUT),
    "px_binary_conv2d": (*_IMAGES, *_OUTPUT),
    "px_weight_only_linear": (*_ROWS, *_AFFINE),
    "px_dynamic_int8_linear": (*_ROWS, *_AFFINE),
    "px_weight_only_conv2d": (*_IMAGES, *_AFFINE),
    "px_dynamic_int8_conv2d": (*_IMAGES, *_AFFINE),
    "px_int8_linear": (*_ROWS, *_AFFINE),
    "px_int8_conv2d": (*_IMAGES, *_AFFINE),
    "px_fused_linear": (_POINTER, _POINTER, *_ROWS, *_FUSED, _POINTER),
    "px_fused_conv2d": (_POINTER, _POINTER, *_IMAGES, *_FUSED, _POINTER),
    "px_fused_float_linear": (_INT, *_ROWS, *_FUSED),
    "px_fused_int8_linear": (*_ROWS, *_FUSED),
    "px_fused_int8_conv2d": _IMAGE_PASS,
    "px_fused_float_conv2d": _IMAGE_PASS,
    "px_finish": (_POINTER, _LONG, _LONG, *_FUSED),
    "px_finish_max_pool2d": (_POINTER, _LONG, _LONG, _WINDOW, _POINTER, _POINTER),
    "px_attention": (*[_POINTER] * 3, ctypes.POINTER(CAttention), _POINTER),
    "px_quantize": (_INT, _INT, _INT, _FLOAT, _LONG, _LONG, *[_POINTER] * 4),
    "px_quantize_backward": (_INT, _INT, _FLOAT, _LONG, _LONG, *[_POINTER] * 5),
}
"""What each function takes between the number of an instruction set and the number of threads; it returns a status."""

_QUESTIONS = {"px_layout": (ctypes.POINTER(_LONG), _INT), "px_supports": (_INT,)}
"""What the functions take that return a number."""

DONE, LACKS_INSTRUCTIONS, NOT_TAKEN, OUT_OF_MEMORY = range(4)
"""Statuses, as `csrc/proxconnect.h` numbers them; NOT_TAKEN is for inputs that a function leaves to its caller."""


def _checked(status: int, function: Any, arguments: tuple[Any, ...]) -> int:
    """Return DONE or NOT_TAKEN, and raise for every other status; an `errcheck` of ctypes."""
    if status in (DONE, NOT_TAKEN):
        return status
    if status == OUT_OF_MEMORY:
        raise MemoryError(
            f"{function.__name__} found no memory to work in: call with a smaller batch, or with fewer threads "
            "(torch.set_num_threads)"
        )
    raise RuntimeError(
        f"{function.__name__} cannot run instruction set {arguments[0]} on this machine: use one of "
        "proxconnect.kernels.instruction_sets()"
    )


@cache
def library() -> ctypes.CDLL | None:
    """Load the library; return None if it was not built.

    Raises:
        RuntimeError: The library was built from other sources than this package.
    """
    for folder in sys.modules[__package__].__path__:
        file = Path(folder) / FILE
        if file.is_file():
            found = ctypes.CDLL(str(file))
            _require_same_interface(found)
            for name in _FUNCTIONS:
                getattr(found, name).errcheck = _checked
            return found
    return None


def _require_same_interface(found: ctypes.CDLL) -> None:
    """Declare the library's functions; raise RuntimeError unless it has them and the structures above."""
    expected = _layout()
    numbers = (ctypes.c_int64 * len(expected))()
    declared = _QUESTIONS | {name: (_INT, *arguments, _INT) for name, arguments in _FUNCTIONS.items()}
    try:
        for name, arguments in declared.items():
            function = getattr(found, name)
            function.argtypes, function.restype = arguments, ctypes.c_int32
        is_same = found.px_layout(numbers, len(numbers)) == len(numbers) and list(numbers) == expected
    except AttributeError:
        is_same = False
    if not is_same:
        raise RuntimeError(
            f"{found._name} was built from other sources than this version of proxconnect: install proxconnect again"
        )


def _layout() -> list[int]:
    """Return the size of each structure and the offsets of its fields, as `px_layout` writes them."""
    numbers = []
    for structure in _STRUCTURES:
        numbers += [ctypes.sizeof(structure), *(getattr(structure, field[0]).offset for field in structure._fields_)]
    return numbers


def is_built() -> bool:
    """Return whether the kernels were built with this installation of the package."""
    return library() is not None


@cache
def instruction_sets() -> tuple[str, ...]:
    """Return the instruction sets that the kernels may use on this machine, the best last; none if they were not built.

    The environment variable PROXCONNECT_INSTRUCTION_SET names the best that they may use. It is read once.

    Raises:
        ValueError: the variable names a set that this machine lacks.
    """
    kernels = library()
    if kernels is None:
        return ()
    return allowed(tuple(name for name, number in NUMBERS.items() if kernels.px_supports(number)))


def loaded(instruction_set: str | None) -> tuple[ctypes.CDLL, int]:
    """Return the library and the number of an instruction set, by default of the best.

    Raises:
        RuntimeError: The kernels were not built. ValueError: This machine lacks the instruction set.
    """
    kernels, known = library(), instruction_sets()
    if kernels is None:
        raise RuntimeError(f"{NOT_BUILT}. {ADVICE}, or compute with torch")
    if instruction_set is not None and instruction_set not in known:
        raise ValueError(f"this machine runs {', '.join(known)}; got instruction_set={instruction_set!r}")
    return kernels, NUMBERS[known[-1] if instruction_set is None else instruction_set]


@cache
def has_float_conv() -> bool:
    """Return whether this machine has kernels for float convolutions, in fixed point: it takes AMX."""
    return "amx" in instruction_sets()
