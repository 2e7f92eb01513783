"""What a rival is, and what it is given."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from proxconnect.cli.bench.rivals import onnx_files
from proxconnect.inspection.macs import count

Run = Callable[[], Iterable[Any]]
"""One run on an input that is fixed; its answers as arrays of numpy."""


class CannotRunError(Exception):
    """A rival does not take such a network; the message says which it takes."""


@dataclass(frozen=True)
class Task:
    """A network to run, and its input."""

    model: nn.Module
    """The float one."""
    binary: nn.Module
    """What `binarize` made of it, in `eval()`."""
    inputs: tuple[Tensor, ...]
    threads: int
    folder: Path
    """For files."""

    @cached_property
    def is_convolutional(self) -> bool:
        """Whether most multiply-adds are those of convolutions."""
        macs = count(self.model, self.inputs).macs
        convolutions = sum(amount for module, amount in macs.items() if isinstance(module, nn.Conv1d | nn.Conv2d))
        return 2 * convolutions > sum(macs.values())

    @cached_property
    def onnx_file(self) -> Path:
        """The float network."""
        return onnx_files.write_floats(self.model, self.inputs, self.folder / "float.onnx")

    @cached_property
    def static_int8_file(self) -> Path:
        """Weights and activations in 8 bits, their ranges those that the inputs give."""
        return onnx_files.write_static_int8(self.onnx_file, self.inputs, self.folder / "static.onnx")

    @cached_property
    def dynamic_int8_file(self) -> Path:
        """Weights of linear layers in 8 bits, and their inputs, whose ranges are found in each run."""
        return onnx_files.write_dynamic_int8(self.onnx_file, self.folder / "dynamic.onnx")


@dataclass(frozen=True)
class Rival:
    """An engine that runs networks."""

    name: str
    packages: tuple[str, ...]
    """What must be installed, the engine first."""
    prepare: Callable[[Task], Run]
    """CannotRunError for networks that it does not take."""
    runs: Literal["float", "binary"] = "float"
    """The network whose answers it is to give."""

    @property
    def version(self) -> str:
        """That of the engine."""
        return version(self.packages[0])

    @property
    def absence(self) -> str:
        """How to install what is missing; empty where nothing is."""
        missing = not all(map(_is_installed, self.packages))
        return f"pip install {' '.join(self.packages)}" if missing else ""


def answers(run: Run) -> list[Tensor]:
    """Those of one run."""
    return [torch.as_tensor(answer) for answer in run()]


def _is_installed(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except ImportError:
        return False
