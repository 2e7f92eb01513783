"""Do the examples in docstrings print what they say, white space apart, and has every function of the root one?"""

import contextlib
import copy
import doctest
import inspect
import io
import tempfile
from collections.abc import Iterator

import torch
from torch import nn

import proxconnect
from checks.public_names import packages, shortest_names

NAMES = {"copy": copy, "torch": torch, "nn": nn, "pc": proxconnect}
"""What the examples take as imported; docs/reference/index.md says so."""


def public() -> Iterator[tuple[str, object]]:
    """Every public class and function under its shortest name."""
    names = shortest_names()
    for package in packages():
        for name in package.__all__:
            value = getattr(package, name)
            if names[id(value)] == f"{package.__name__}.{name}" and (
                inspect.isclass(value) or inspect.isroutine(value)
            ):
                yield names[id(value)], value


def with_example() -> list[str]:
    """The names of those that have one."""
    return [name for name, value in public() if ">>>" in (value.__doc__ or "")]


def without_example() -> list[str]:
    """The functions of the root package that have none."""
    functions = {name: value for name, value in public() if name.count(".") == 1 and inspect.isfunction(value)}
    return sorted(functions.keys() - {*with_example()})


def run(name: str, value: object) -> list[str]:
    """The faults of the example of this class or function, run in an empty folder, with a fixed seed."""
    test = doctest.DocTestParser().get_doctest(inspect.getdoc(value) or "", dict(NAMES), name, None, None)
    said = io.StringIO()
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        doctest.DocTestRunner(verbose=False, optionflags=doctest.NORMALIZE_WHITESPACE).run(test, out=said.write)
    return [f"the example of {name} prints something else\n{said.getvalue()}"] if said.getvalue() else []


def faults() -> list[str]:
    """What is wrong with the examples of all public names."""
    missing = [f"{name} has no example in its docstring" for name in without_example()]
    return missing + [fault for name, value in public() for fault in run(name, value)]
