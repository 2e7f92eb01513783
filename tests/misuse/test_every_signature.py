"""Every argument of everything public, given what it cannot take: the error names it. A new function is covered."""

import inspect
import math
import warnings

import numpy
import pytest
import torch
from every_call import CALLS, RESULTS, ROOMS, called

OF_TORCH = {"in_features", "out_features", "in_channels", "out_channels", "kernel_size", "stride", "padding", "bias",
            "embed_dim", "num_heads", "device", "dtype"}  # fmt: skip
"""Arguments that torch's own layers check, or do not."""

NAMED_OTHERWISE = {"pc.load path": "file", "pc.binarize model": "model"}

ARGUMENTS = [(name, argument) for name, make in CALLS.items() for argument in make() if argument not in OF_TORCH]


class Nonsense:
    """What no argument takes."""


def parameters(name):
    room, _, short = name.partition(".")
    return inspect.signature(getattr(ROOMS[room], short)).parameters


def of_kind(*kinds):
    return [
        (name, argument)
        for name, argument in ARGUMENTS
        if argument in parameters(name)
        and set(str(parameters(name)[argument].annotation).replace("<class '", "").replace("'>", "").split(" | "))
        & set(kinds)
    ]


def test_everything_public_has_a_right_call_with_all_its_arguments():
    public = {f"{room}.{name}" for room, module in ROOMS.items() for name in module.__all__}
    through_pc = {name for name in public if f"pc.{name.partition('.')[2]}" in CALLS}
    assert public - through_pc - set(CALLS) - RESULTS == set()
    for name, make in CALLS.items():
        named = {key for key, p in parameters(name).items() if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)}
        assert named <= set(make()), name


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("name", CALLS)
def test_the_right_call_is_right(name):
    called(name, CALLS[name]())


@pytest.mark.parametrize(("name", "argument"), ARGUMENTS)
def test_nonsense_is_named(name, argument):
    with pytest.raises((TypeError, ValueError)) as caught, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        called(name, CALLS[name]() | {argument: Nonsense()})
    said = "\n".join([str(caught.value), *getattr(caught.value, "__notes__", [])])
    assert "Nonsense" in said
    assert argument in said or argument.replace("_", " ") in said or name.partition(".")[2] in said


@pytest.mark.parametrize(("name", "argument"), of_kind("float", "int"))
def test_nan_is_no_number(name, argument):
    with pytest.raises((TypeError, ValueError), match="(?i)nan"):
        called(name, CALLS[name]() | {argument: math.nan})


@pytest.mark.parametrize(("name", "argument"), of_kind("float", "int"))
@pytest.mark.parametrize("as_scalar", [numpy.asarray, lambda value: numpy.asarray(value)[()], torch.tensor])
def test_numbers_of_numpy_and_torch_are_numbers(name, argument, as_scalar):
    arguments = CALLS[name]()
    called(name, arguments | {argument: as_scalar(arguments[argument])})
