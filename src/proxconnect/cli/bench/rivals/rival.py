"""Rivals, and the tasks that they get."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from torch import Tensor, nn

from proxconnect.cli.bench.rivals import onnx_runtime
from proxconnect.inspection.macs import count

Run = Callable[[], Iterable[Any]]
"""Runs once on a fixed input, and returns the answers as arrays of numpy."""


class CannotRunError(Exception):
    """A rival does not take such a network; the message says which it takes."""


@dataclass(frozen=True)
class Task:
    """A network to run, and its input."""

    model: nn.Module
    """The float form."""
    binary: nn.Module
    inputs: tuple[Tensor, ...]
    threads: int
    folder: Path

    @cached_property
    def is_convolutional(self) -> bool:
        """Whether convolutions have most of the multiply-adds."""
        macs = count(self.model, self.inputs).macs
        convolutions = sum(amount for module, amount in macs.items() if isinstance(module, nn.Conv1d | nn.Conv2d))
        return 2 * convolutions > sum(macs.values())

    @cached_property
    def onnx_file(self) -> Path:
        """The float network."""
        return onnx_runtime.write_floats(self.model, self.inputs, self.folder / "float.onnx")

    @cached_property
    def static_int8_file(self) -> Path:
        """The network in 8 bits, the ranges of its activations those that the inputs give."""
        return onnx_runtime.write_static_int8(self.onnx_file, self.inputs, self.folder / "static.onnx")


@dataclass(frozen=True)
class Rival:
    """An engine that runs networks."""

    name: str
    packages: tuple[str, ...]
    """The packages that must be installed, the engine first."""
    prepare: Callable[[Task], Run]
    """Raises CannotRunError for networks that it does not take."""
    runs: Literal["float", "binary"] = "float"
    """The network whose answers it should give."""

    @property
    def absence(self) -> str:
        """How to install the packages; empty if none is missing."""
        missing = not all(map(find_spec, self.packages))
        return f"pip install {' '.join(self.packages)}" if missing else ""
