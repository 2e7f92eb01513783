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
"""A function that runs the network once on a fixed input, and returns its outputs as numpy arrays."""


class CannotRunError(Exception):
    """An engine cannot run this network; the message says why."""


@dataclass(frozen=True)
class Task:
    """The network that other engines run, its input, the number of threads, and a folder for their files."""

    model: nn.Module
    """The float network."""
    binary: nn.Module
    """The same network, binarized."""
    inputs: tuple[Tensor, ...]
    threads: int
    folder: Path

    @cached_property
    def is_convolutional(self) -> bool:
        """True if more than half of the multiply-adds are those of 1-d and 2-d convolutions."""
        macs = count(self.model, self.inputs).macs
        convolutions = sum(amount for module, amount in macs.items() if isinstance(module, nn.Conv1d | nn.Conv2d))
        return 2 * convolutions > sum(macs.values())

    @cached_property
    def onnx_file(self) -> Path:
        """The float network as an ONNX file in `folder`, written at the first access."""
        return onnx_runtime.write_floats(self.model, self.inputs, self.folder / "float.onnx")

    @cached_property
    def static_int8_file(self) -> Path:
        """The float network in 8 bits as an ONNX file in `folder`, written at the first access.

        The ranges of its activations are fixed; they are those on `inputs`.
        """
        return onnx_runtime.write_static_int8(self.onnx_file, self.inputs, self.folder / "static.onnx")


@dataclass(frozen=True)
class Rival:
    """An engine other than torch, or one of its precisions, to compare with: its packages, and how it is prepared."""

    name: str
    packages: tuple[str, ...]
    """The packages that must be installed, the engine first."""
    prepare: Callable[[Task], Run]
    """Converts the network of a task and returns the function that runs it; CannotRunError if it does not take it."""
    runs: Literal["float", "binary"] = "float"
    """The form of the network that it runs, with which its outputs are compared."""

    @property
    def absence(self) -> str:
        """The `pip install` command for its packages if one is missing; "" if all are installed."""
        missing = not all(map(find_spec, self.packages))
        return f"pip install {' '.join(self.packages)}" if missing else ""
