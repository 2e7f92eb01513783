"""Every argument of the kernels' functions, given what it cannot take: the error names it."""

import inspect
from functools import partial
from typing import Any

import pytest
from callables import SUBJECTS, tensors

from proxconnect import kernels

pytestmark = pytest.mark.skipif(not kernels.is_built(), reason="needs the kernels")


def bound(name: str) -> tuple[Any, dict[str, Any]]:
    """The function of a subject, and its right arguments by name."""
    subject, t = SUBJECTS[name], tensors()
    made = subject.make(t)
    assert isinstance(made, partial)
    right = inspect.signature(made.func).bind(*(t[key] for key in subject.inputs), **made.keywords)
    return made.func, dict(right.arguments)


ARGUMENTS = [
    (name, argument)
    for name in SUBJECTS
    if inspect.isfunction(function := getattr(kernels, name, None)) and name != "attention"
    for argument in inspect.signature(function).parameters
]


@pytest.mark.parametrize(("name", "argument"), ARGUMENTS)
def test_nonsense_is_named(name: str, argument: str) -> None:
    function, right = bound(name)
    with pytest.raises((TypeError, RuntimeError)) as caught:  # RuntimeError of torch's operators
        function(**(right | {argument: object()}))
    assert argument in str(caught.value)
    assert "object" in str(caught.value)
