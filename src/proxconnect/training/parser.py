"""The parser of `proxconnect fit | validate | test`: Lightning's, with help that fits a terminal and short errors."""

import argparse
import dataclasses
import inspect
import re
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from typing import Any, NoReturn

from jsonargparse import DefaultHelpFormatter
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.cli import LightningArgumentParser

from proxconnect.layers import Accumulator
from proxconnect.training.binarization import Binarization, Course
from proxconnect.training.data.modules import Cifar10, Cifar100, Digits, FashionMnist, ImageData, ImageNet
from proxconnect.training.module import Teacher

DATA = (Digits, FashionMnist, Cifar10, Cifar100, ImageNet)
"""The data modules, which --data takes by the name of the class."""

_NESTED: dict[str, Any] = {
    "model.binary": Binarization,
    "model.binary.accumulator": Accumulator,
    "model.sharpening.activations": Course,
    "model.teacher": Teacher,
}

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


class UsageError(ValueError):
    """Wrong arguments, or wrong files that they name; the message says what to do."""


class Formatter(argparse.RawDescriptionHelpFormatter, DefaultHelpFormatter):
    """Help that keeps the lines of a description as they are, and breaks options between words."""

    def _format_action_invocation(self, action: argparse.Action) -> str:
        whole, width = super()._format_action_invocation(action), self._width - self._current_indent
        if len(whole) <= width:
            return whole
        words = textwrap.wrap(whole.replace(",", ", "), width - 4, break_on_hyphens=False)
        return "\n      ".join(line.replace(", ", ",") for line in words)


class TrainingParser(LightningArgumentParser):
    """Lightning's parser, which raises a UsageError of one line instead of ending the process."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raise a UsageError, with near names, or names of a near last part, for an option that does not exist."""
        unknown = _UNKNOWN.search(message)
        if unknown is None:
            hint = next((hint for sign, hint in _HINTS.items() if sign in message), "")
            raise UsageError(_short(message)[:400] + hint) from ex
        name = next(group for group in unknown.groups() if group)
        listed = [option.removeprefix("--") for action in self._actions for option in action.option_strings]
        known = {*listed, *nested_names()} - {name}
        ends = {full.rpartition(".")[2]: full for full in sorted(known)}
        near = get_close_matches(name, known, n=3, cutoff=0.7)
        near = near or [ends[end] for end in get_close_matches(name.rpartition(".")[2], ends, n=3, cutoff=0.7)]
        hint = f"did you mean {' or '.join(near)}?" if near else "proxconnect fit --help lists the options"
        raise UsageError(f"there is no option {name}: {hint}") from ex


@contextmanager
def complaining() -> Iterator[None]:
    """Turn errors of building a trainer, a module or a data module from options into a UsageError of one line."""
    try:
        yield
    except ValueError as error:
        raise UsageError(_short(str(error))) from error
    except (MisconfigurationException, ModuleNotFoundError) as error:  # mostly devices that are not there
        raise UsageError(
            f"Lightning's trainer cannot be made here: {' '.join(str(error).split())} Say what this machine has by "
            "--trainer.accelerator and --trainer.devices"
        ) from None


def nested_names() -> Iterator[str]:
    """Yield the options of parts that may be null, and those of the data, which no parser lists."""
    for where, cls in _NESTED.items():
        yield from (f"{where}.{field.name}" for field in dataclasses.fields(cls))
    for base in dict.fromkeys(base for cls in DATA for base in cls.__mro__ if issubclass(base, ImageData)):
        yield from (f"data.init_args.{name}" for name in inspect.signature(base).parameters)


def _short(error: str) -> str:
    """Return one line; of a value that may also be null, keep only why it is no other value."""
    while (shorter := _OR_NULL.sub(r"\1", error)) != error:
        error = shorter
    return " ".join(error.split())
