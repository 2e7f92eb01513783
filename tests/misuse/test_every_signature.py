"""Every argument of everything public, given what it cannot take: the error names it. A new function is covered."""

import contextlib
import inspect
import math
import tempfile
import warnings

import numpy
import pytest
import torch
from every_call import CALLS, RESULTS, ROOMS, call, function

OF_TORCH = {"in_features", "out_features", "in_channels", "out_channels", "kernel_size", "stride", "padding", "bias",
            "embed_dim", "num_heads", "num_embeddings", "embedding_dim", "device", "dtype"}  # fmt: skip
"""Arguments that torch's own layers check, or do not."""

SLOW = {"export.to_onnx", "export.to_openvino", "export.to_qonnx", "theory.plot_verdict"}
"""Right calls that the tests of their rooms make."""

MAY_BE_NAN = {("pc.diagnose", "loss")}

with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):  # a right call may need a file
    RIGHT = {
        (name, argument): value
        for name, make in CALLS.items()
        for argument, value in make().items()
        if argument not in OF_TORCH
    }

NUMBERS = [key for key, value in RIGHT.items() if type(value) in (int, float)]


class Nonsense:
    """What no argument takes."""


@pytest.fixture(autouse=True)
def folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def refusal(name, argument, value):
    """What is said to a right call with this one wrong argument."""
    arguments = CALLS[name]() | {argument: value}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises((TypeError, ValueError)) as caught:
            call(name, arguments)
    return "\n".join([str(caught.value), *getattr(caught.value, "__notes__", [])])


def test_everything_public_has_a_right_call_with_all_its_arguments():
    public = {f"{room}.{name}" for room, module in ROOMS.items() for name in module.__all__}
    again = {name for name in public if f"pc.{name.partition('.')[2]}" in CALLS}
    assert public - again - set(CALLS) - RESULTS == set()
    for name, make in CALLS.items():
        parameters = inspect.signature(function(name)).parameters.values()
        named = {p.name for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)}
        assert named <= set(make()), name


@pytest.mark.parametrize("name", [name for name in CALLS if name not in SLOW])
def test_the_right_call_is_right(name):
    call(name, CALLS[name]())


@pytest.mark.parametrize(("name", "argument"), RIGHT)
def test_nonsense_is_named(name, argument):
    said = refusal(name, argument, Nonsense())
    assert "Nonsense" in said
    names = (argument, argument.replace("_", " "), name.rpartition(".")[2], "a pair is")
    names += ("μ",) if argument == "mu" else ()
    assert any(name in said for name in names)


@pytest.mark.parametrize(("name", "argument"), [key for key in NUMBERS if key not in MAY_BE_NAN])
def test_nan_is_no_number(name, argument):
    assert "nan" in refusal(name, argument, math.nan).lower()


@pytest.mark.parametrize(("name", "argument"), NUMBERS)
@pytest.mark.parametrize("form", [numpy.asarray, lambda value: numpy.asarray(value)[()], torch.tensor])
def test_numbers_of_numpy_and_torch_are_numbers(name, argument, form):
    call(name, CALLS[name]() | {argument: form(RIGHT[name, argument])})


@pytest.mark.parametrize(
    ("name", "argument"), [key for key in NUMBERS if type(RIGHT[key]) is int and key[1] != "padding_value"]
)
def test_a_half_is_no_whole_number(name, argument):
    assert f"{argument} takes a whole number; got 1.5" in refusal(name, argument, 1.5)
