"""What is said of options that the command line does not know."""

import dataclasses
import inspect
import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager, redirect_stderr
from difflib import get_close_matches
from io import StringIO
from typing import Any

from lightning.fabric.utilities.exceptions import MisconfigurationException

from proxconnect._support.termination import TerminatedError
from proxconnect.layers import Accumulator
from proxconnect.training.binarization import Binarization, Course
from proxconnect.training.data.modules import Cifar10, Cifar100, Digits, FashionMnist, ImageData, ImageNet
from proxconnect.training.objective import Teacher

_UNKNOWN = re.compile(r"[Oo]ption '([\w.]+)'|unrecognized arguments: --([\w.]+)")
_OR_NULL = re.compile(
    r"Does not validate against any of the Union subtypes\s*Subtypes:.*?Errors:\s*- (.*)\s*- Expected a "
    r"<class 'NoneType'>.*",
    re.DOTALL,
)
_NO_RECIPE = ". --config takes a YAML file of options, as recipes/small_cnn_digits.yaml"
_HINTS = {
    "required: data": ": give a recipe by --config, as recipes/small_cnn_digits.yaml, or a data set by --data",
    "Unexpected config": _NO_RECIPE,
    "Problems parsing config": _NO_RECIPE,
}
"""What to do, by what the parser says."""
_LONGEST = 400
_NESTED: dict[str, Any] = {
    "model.binary": Binarization,
    "model.binary.accumulator": Accumulator,
    "model.sharpening.activations": Course,
    "model.teacher": Teacher,
}
DATA = (Digits, FashionMnist, Cifar10, Cifar100, ImageNet)
"""The data modules, which --data takes by the name of the class."""


class UsageError(ValueError):
    """The arguments, or the files that they name, are not what they should be; the message says what to do."""


@contextmanager
def complaining() -> Iterator[None]:
    """Turn what the parser says before it ends the process into a UsageError of one line, with near names."""
    said = StringIO()
    try:
        with redirect_stderr(said):
            yield
    except TerminatedError:
        raise
    except SystemExit as stop:
        if stop.code in (0, None):  # --help
            raise
        raise UsageError(_complaint(said.getvalue())) from None
    except ValueError as error:
        raise UsageError(_short(str(error))) from error
    except (MisconfigurationException, ModuleNotFoundError) as error:  # devices that are not there, above all
        raise UsageError(
            f"Lightning's trainer cannot be made here: {' '.join(str(error).split())} Say what this machine has by "
            "--trainer.accelerator and --trainer.devices"
        ) from None


def _complaint(said: str) -> str:
    """What the parser has said, below its usage, in short."""
    usage, _, error = said.rpartition("error:")
    unknown = _UNKNOWN.search(error)
    if unknown is None:
        hint = next((hint for sign, hint in _HINTS.items() if sign in error), "")
        return _short(error)[:_LONGEST] + hint
    name = next(group for group in unknown.groups() if group)
    known = {*re.findall(r"--([\w.]+)", usage), *nested_names()} - {name}
    near = get_close_matches(name, known, n=3, cutoff=0.7) or _near_ends(name, known)
    hint = f"did you mean {' or '.join(near)}?" if near else "proxconnect fit --help lists the options"
    return f"there is no option {name}: {hint}"


def _short(error: str) -> str:
    """One line, and of what may be null only what is wrong with it where it is not."""
    while (shorter := _OR_NULL.sub(r"\1", error)) != error:
        error = shorter
    return " ".join(error.split())


def _near_ends(name: str, known: Collection[str]) -> list[str]:
    """The known names whose last part is near to that of `name`."""
    ends = {full.rpartition(".")[2]: full for full in sorted(known)}
    return [ends[end] for end in get_close_matches(name.rpartition(".")[2], ends, n=3, cutoff=0.7)]


def nested_names() -> Iterator[str]:
    """The options of what may be null, and of the data, which the usage does not list."""
    for where, cls in _NESTED.items():
        yield from (f"{where}.{field.name}" for field in dataclasses.fields(cls))
    for cls in DATA:
        for base in cls.__mro__:
            if issubclass(base, ImageData):
                yield from (f"data.init_args.{name}" for name in inspect.signature(base).parameters)
