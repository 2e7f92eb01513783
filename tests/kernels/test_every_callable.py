"""What holds for every callable of the kernels, however its tensors lie in memory."""

import copy
import ctypes
import gc
import sys
import weakref

import pytest
import torch
from callables import OTHERS, SUBJECTS, tensors
from torch import Tensor

from proxconnect import kernels
from proxconnect.kernels import library
from proxconnect.kernels.library import LACKS_INSTRUCTIONS, OUT_OF_MEMORY

pytestmark = pytest.mark.skipif(not kernels.is_built(), reason="the kernels were not built")

every = pytest.mark.parametrize("name", SUBJECTS)


def are_equal(found: list[Tensor], expected: list[Tensor]) -> bool:
    return len(found) == len(expected) and all(map(torch.equal, found, expected))


def test_no_callable_is_left_out() -> None:
    callables = {name for name in kernels.__all__ if callable(getattr(kernels, name))}
    assert callables == (SUBJECTS.keys() & set(kernels.__all__)) | OTHERS


@every
def test_tensors_may_move_between_calls(name: str) -> None:
    """As `share_memory_()` and queues of torch.multiprocessing move them."""
    subject, t = SUBJECTS[name], tensors()
    expected = subject(t)
    made = subject.make(t)
    before = {key: _moved(tensor) for key, tensor in t.items()}
    for old in before.values():
        old.fill_(-77)
    assert are_equal(subject.answer(made, t), expected)


def _moved(tensor: Tensor) -> Tensor:
    """Where a tensor lay before it was moved in place, so that nothing else is put there."""
    old = tensor.detach()
    tensor.data = tensor.detach().clone(memory_format=torch.preserve_format)
    return old


@every
def test_nothing_keeps_it_alive(name: str) -> None:
    """Its memory goes with the last reference, not when the garbage collector runs."""
    subject, t = SUBJECTS[name], tensors()
    gc.disable()
    try:
        made = subject.make(t)
        subject.answer(made, t)
        is_alive = weakref.ref(made)
        del made
        assert is_alive() is None
    finally:
        gc.enable()


@every
def test_a_negative_bit_counts(name: str) -> None:
    """That of `z.conj().imag`, whose memory holds the numbers with the other sign."""
    subject, t = SUBJECTS[name], tensors()
    negated = {key: torch._neg_view(-tensor) if tensor.is_floating_point() else tensor for key, tensor in t.items()}
    torch.testing.assert_close(subject(negated), subject(t))
    (first, *_) = subject.inputs
    imaginary = torch.complex(torch.zeros_like(t[first]), -t[first]).conj().imag  # with a stride of two as well
    if name not in ("Finish", "FinishMaxPool2d"):  # which take no such strides
        torch.testing.assert_close(subject(t | {first: imaginary}), subject(t))


@every
def test_torchs_defaults_do_not_matter(name: str) -> None:
    """As `torch.set_default_device` and `torch.set_default_dtype` set them."""
    subject, t = SUBJECTS[name], tensors()
    expected = subject(t)
    torch.set_default_dtype(torch.float64)
    try:
        with torch.device("meta"):
            found = subject(t)
    finally:
        torch.set_default_dtype(torch.float32)
    assert are_equal(found, expected)


@every
def test_copies_answer_the_same(name: str) -> None:
    subject, t = SUBJECTS[name], tensors()
    made = subject.make(t)
    assert are_equal(subject.answer(copy.deepcopy(made), t), subject.answer(made, t))


@every
def test_vectors_of_any_shape(name: str) -> None:
    """One entry for each channel is enough."""
    subject, t = SUBJECTS[name], tensors()
    columns = {key: t[key][:, None] for key in ("scale", "bias", "a", "b")}
    assert are_equal(subject(t | columns), subject(t))


@pytest.mark.parametrize(
    ("status", "error", "advice"),
    [
        (OUT_OF_MEMORY, MemoryError, "a smaller batch"),
        (LACKS_INSTRUCTIONS, RuntimeError, r"kernels.instruction_sets\(\)"),
    ],
)
@every
def test_a_failure_in_c_is_raised(
    name: str, status: int, error: type[Exception], advice: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = library.library()
    assert loaded is not None
    failing = []
    for function in library._FUNCTIONS:
        real = getattr(loaded, function)
        fake = ctypes.CFUNCTYPE(real.restype, *real.argtypes)(lambda *_: status)
        fake.__name__ = function
        if real.errcheck is not None:
            fake.errcheck = real.errcheck
        failing.append((function, fake))
    subject, t = SUBJECTS[name], tensors()
    monkeypatch.setattr(sys.modules[kernels.attention.__module__], "has_float_kernels", lambda: True)
    kernels.instruction_sets()  # before its question is answered with a status
    for function, fake in failing:
        monkeypatch.setattr(loaded, function, fake)
    with pytest.raises(error, match=advice):
        subject(t)


def _columns(count: int) -> Tensor:
    return torch.zeros(1, 1).expand(1, count)


_NO_PANELS = torch.empty(0, dtype=torch.int64)
TOO_MANY = {
    "binary_linear": (2**31, lambda n: kernels.binary_linear(_columns(n), _NO_PANELS, 8)),
    "dynamic_int8_linear": (2**24 + 1, lambda n: kernels.dynamic_int8_linear(_columns(n), _NO_PANELS, 8)),
    "int8_linear": (2**17 + 1, lambda n: kernels.int8_linear(_columns(n), _NO_PANELS, 8)),
    "binary_conv2d": (
        2**31, lambda n: kernels.binary_conv2d(_columns(n)[..., None, None], _NO_PANELS, (8, n, 1, 1))
    ),
    "dynamic_int8_conv2d": (
        2**24 + 1, lambda n: kernels.dynamic_int8_conv2d(_columns(n)[..., None, None], _NO_PANELS, (8, n, 1, 1))
    ),
    "int8_conv2d": (
        2**17 + 1, lambda n: kernels.int8_conv2d(_columns(n)[..., None, None], _NO_PANELS, (8, n, 1, 1))
    ),
    "FusedLinear": (2**31, lambda n: kernels.FusedLinear(_NO_PANELS, n, 8)),
    "FusedFloatLinear": (2**24 + 1, lambda n: kernels.FusedFloatLinear(_NO_PANELS, n, 8, rounds=True)),
    "FusedInt8Linear": (2**17 + 1, lambda n: kernels.FusedInt8Linear(_NO_PANELS, n, 8)),
    "FusedConv2d": (2**31, lambda n: kernels.FusedConv2d(_NO_PANELS, (8, n, 1, 1))),
    "FusedWeightOnlyConv2d": (
        2**24 + 1, lambda n: kernels.FusedWeightOnlyConv2d(_NO_PANELS, (8, n, 1, 1), rounds=True)
    ),
    "FusedInt8Conv2d": (2**17 + 1, lambda n: kernels.FusedInt8Conv2d(_NO_PANELS, (8, n, 1, 1))),
    "FusedFloatConv2d": (
        2**15 + 1, lambda n: kernels.FusedFloatConv2d(torch.zeros(1, 1, 1, 1).expand(8, n, 1, 1))
    ),
}  # fmt: skip
"""The fewest entries whose sum no longer fits 32 bits, as csrc/proxconnect.h says them, and a call with so many."""

if "amx" not in kernels.instruction_sets():  # without which float convolutions sum floats
    del TOO_MANY["FusedFloatConv2d"]


@pytest.mark.parametrize("name", TOO_MANY)
def test_sums_that_32_bits_do_not_hold_are_refused(name: str) -> None:
    entries, call = TOO_MANY[name]
    with pytest.raises(ValueError, match=f"at most {entries - 1} entries|0 < in <= {entries - 1}, "):
        call(entries)
    if name != "FusedFloatConv2d":  # which makes its own panels
        with pytest.raises((ValueError, TypeError), match="panels"):
            call(entries - 1)
