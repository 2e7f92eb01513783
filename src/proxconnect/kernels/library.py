"""Load the compiled library, declare its interface (`csrc/proxconnect.h`), and find this machine's instruction sets."""

import ctypes
import os
import sys
from functools import cache
from pathlib import Path
from typing import Any

from proxconnect._support.installation import pip_install

FILE = "kernels.so"

NUMBERS = {"portable": 0, "avx2": 1, "avx512_vnni": 5, "avx512": 2, "amx": 4, "neon": 3}
"""The number of each instruction set in `csrc/proxconnect.h`, the slowest set first."""

VARIABLE = "PROXCONNECT_INSTRUCTION_SET"
"""The environment variable that names the best instruction set that the kernels may use (`docs/kernels.md`)."""

NOT_BUILT = "proxconnect was installed without its kernels"
ON_TORCH = "packed layers give the right answers with torch, more slowly than float layers"
_INT, _LONG, _FLOAT, _POINTER = ctypes.c_int32, ctypes.c_int64, ctypes.c_float, ctypes.c_void_p
_TWO, _THREE = _LONG * 2, _LONG * 3


class COutput(ctypes.Structure):
    """The conversion of a sum to an output: the overflow of an accumulator, a scale, a bias and scales of groups."""

    _fields_ = (
        *(("overflow", _INT), ("bits", _INT), ("slope", _FLOAT)),
        *(("scales", _LONG), ("scale", _POINTER), ("bias", _POINTER)),
        *(("group", _LONG), ("group_scale", _POINTER), ("half_group_scale", _POINTER)),
    )


class CStep(ctypes.Structure):
    """One epilogue step: its kind (affine, clamp, slope or add) and its parameters."""

    _fields_ = (("kind", _INT), ("low", _FLOAT), ("high", _FLOAT), ("a", _POINTER), ("b", _POINTER))


class CSigns(ctypes.Structure):
    """The intervals of each channel; the sign of an integer sum is +1 if an odd number of them contains it."""

    _fields_ = (("intervals", _LONG), ("low", _POINTER), ("width", _POINTER))


class CFused(ctypes.Structure):
    """The conversion of sums to outputs, and the epilogue: either steps on floats, or intervals that give signs."""

    _fields_ = (
        ("output", COutput),
        ("step_count", _LONG),
        ("steps", ctypes.POINTER(CStep)),
        ("signs", ctypes.POINTER(CSigns)),
    )


class CWindow(ctypes.Structure):
    """The sizes of a pool over images, for height and width."""

    _fields_ = tuple((name, _TWO) for name in ("size", "out_size", "kernel", "stride", "padding"))


class CGeometry(ctypes.Structure):
    """The sizes of a convolution, the strides and shift of its input, its border, and the layout of its output.

    `border` is the padding value, -1, 0 or 1, and `has_planes` is 0 for a channels_last output. `input_shift` is null
    or the address of a float32 shift for each channel and 80 more that repeat the first ones, as `epilogue.padded`
    makes them. Keep their memory alive.
    """

    _fields_ = (
        *(("batch", _LONG), ("channels", _LONG), ("size", _TWO), ("out_channels", _LONG)),
        *((name, _TWO) for name in ("out_size", "kernel", "stride", "padding", "dilation")),
        *((name, _LONG) for name in ("groups", "image_stride", "channel_stride", "row_stride", "pixel_stride")),
        *(("border", _INT), ("has_planes", _INT), ("input_shift", _POINTER)),
    )


class CAttention(ctypes.Structure):
    """The sizes and strides of queries, keys and values, and the scale of their products."""

    _fields_ = (
        *((name, _LONG) for name in ("batch", "heads", "queries", "keys", "width")),
        *((name, _THREE) for name in ("q_strides", "k_strides", "v_strides")),
        ("scale", _FLOAT),
    )


class CLayerNorm(ctypes.Structure):
    """The parameters of a layer norm."""

    _fields_ = (("width", _LONG), ("weight", _POINTER), ("bias", _POINTER), ("eps", _FLOAT))


class CDecoderProduct(ctypes.Structure):
    """A binary weight of a decoder layer, and the address of its `CFused`."""

    _fields_ = (("panels", _POINTER), ("outputs", _LONG), ("fused", _POINTER))


class CDecoder(ctypes.Structure):
    """The sizes, norms and weights of a decoder layer. Keep their memory alive."""

    _fields_ = (
        *((name, _LONG) for name in ("width", "hidden", "heads", "key_heads", "head_width")),
        *(("eps", _FLOAT), ("scale", _FLOAT), ("rounds", _INT)),
        *((name, _POINTER) for name in ("input_norm", "hidden_norm", "query_norm", "key_norm")),
        *((name, CDecoderProduct) for name in ("query", "key", "value", "output", "gate", "up", "down")),
    )


class CDecoderCache(ctypes.Structure):
    """The keys and values of the tokens before, with room for one more."""

    _fields_ = (("keys", _POINTER), ("values", _POINTER), ("tokens", _LONG), ("strides", _TWO), ("seen", _POINTER))


_STRUCTURES = (
    *(COutput, CStep, CSigns, CFused, CWindow, CGeometry, CAttention, CLayerNorm),
    *(CDecoderProduct, CDecoder, CDecoderCache),
)
"""All structures, in the order in which `px_layout` describes them."""

_GEOMETRY, _WINDOW = ctypes.POINTER(CGeometry), ctypes.POINTER(CWindow)
_ROWS = _POINTER, _LONG, _LONG, _LONG, _POINTER, _LONG
"""The input, its rows, its columns, the stride of its rows, the prepacked weight, and the number of outputs."""
_FUSED = _POINTER, _POINTER, _POINTER
"""The addresses of the epilogue, of the addends and of the outputs."""
_IMAGE_PASS = _POINTER, _WINDOW, _GEOMETRY, *[_POINTER] * 3, _WINDOW, _POINTER

_FUNCTIONS: dict[str, tuple[Any, ...]] = {
    "px_prepack_signs": (_POINTER, *[_LONG] * 4, _POINTER),
    "px_binary_linear": (_POINTER, _POINTER, *_ROWS, *_FUSED, _POINTER),
    "px_binary_conv2d": (*[_POINTER] * 3, _GEOMETRY, _POINTER, *_FUSED, _POINTER),
    "px_weight_only_linear": (_INT, *_ROWS, *_FUSED),
    "px_int8_linear": (*_ROWS, *_FUSED),
    "px_weight_only_conv2d": (_INT, *_IMAGE_PASS),
    "px_int8_conv2d": _IMAGE_PASS,
    "px_float_conv2d": _IMAGE_PASS,
    "px_finish": (_POINTER, _LONG, _LONG, *_FUSED),
    "px_layer_norm": (_POINTER, _LONG, _POINTER, _POINTER),
    "px_finish_max_pool2d": (_POINTER, _LONG, _LONG, _WINDOW, _POINTER, _POINTER),
    "px_pixel_means": (_POINTER, _LONG, _LONG, _LONG, _POINTER),
    "px_attention": (*[_POINTER] * 3, ctypes.POINTER(CAttention), _POINTER),
    "px_decoder_layer": (_POINTER, _LONG, *[_POINTER] * 5),
    "px_quantize": (_INT, _INT, _INT, _FLOAT, _LONG, _LONG, *[_POINTER] * 4),
    "px_quantize_backward": (_INT, _INT, _FLOAT, _LONG, _LONG, *[_POINTER] * 5),
}
"""The argument types of each function that returns a status, between the numbers of instruction set and threads."""

DONE, LACKS_INSTRUCTIONS, NOT_TAKEN, OUT_OF_MEMORY = range(4)
"""The statuses of `csrc/proxconnect.h`. NOT_TAKEN means that the function does not support the input."""


def _checked(status: int, function: Any, arguments: tuple[Any, ...]) -> int:
    """Return the status if it is DONE or NOT_TAKEN, else raise; ctypes calls this as `errcheck`."""
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
    """Load the compiled library; return None if it was not built. RuntimeError if it has another interface."""
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
    expected = []  # as `px_layout` writes it: the size of each structure, and the offsets of its fields
    for structure in _STRUCTURES:
        expected += [ctypes.sizeof(structure), *(getattr(structure, field[0]).offset for field in structure._fields_)]
    numbers = (ctypes.c_int64 * len(expected))()
    declared = {name: (_INT, *arguments, _INT) for name, arguments in _FUNCTIONS.items()}
    declared |= {"px_layout": (ctypes.POINTER(_LONG), _INT), "px_supports": (_INT,)}  # which return a number
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


def is_built() -> bool:
    """Return True if this installation of the package contains the compiled kernels."""
    return library() is not None


@cache
def instruction_sets() -> tuple[str, ...]:
    """Return the instruction sets that the kernels may use on this machine, the best last; none if they are not built.

    The environment variable PROXCONNECT_INSTRUCTION_SET names the best set that they may use. It is read once.
    ValueError if it names a set that this machine lacks.
    """
    kernels = library()
    if kernels is None:
        return ()
    sets = tuple(name for name, number in NUMBERS.items() if kernels.px_supports(number))
    best = os.environ.get(VARIABLE) or sets[-1]
    if best not in sets:
        raise ValueError(
            f"{VARIABLE} is {best!r}, and this machine runs {', '.join(sets)}: set it to one of these, or unset it"
        )
    return sets[: sets.index(best) + 1]


def advice() -> str:
    """Return a sentence, without its full stop, on how to install proxconnect with its kernels."""
    command = pip_install(options="--force-reinstall --no-deps --no-cache-dir")
    return f"To build the kernels, install a C++17 compiler, then run: {command}"


def loaded(instruction_set: str | None) -> tuple[ctypes.CDLL, int]:
    """Return the library and the number of an instruction set (None: the best); raise if either is unavailable."""
    kernels, known = library(), instruction_sets()
    if kernels is None:
        raise RuntimeError(f"{NOT_BUILT}. {advice()}, or compute with torch")
    if instruction_set is not None and instruction_set not in known:
        raise ValueError(f"this machine runs {', '.join(known)}; got instruction_set={instruction_set!r}")
    return kernels, NUMBERS[known[-1] if instruction_set is None else instruction_set]


def has_float_kernels() -> bool:
    """Return True if `attention` and `FusedFloatConv2d` in one group can run here: built, and with AVX2 or more."""
    return "avx2" in instruction_sets()


def has_vectors() -> bool:
    """Return True if the kernels are built and may use an instruction set with vectors: any but "portable"."""
    return instruction_sets()[-1:] not in ((), ("portable",))
