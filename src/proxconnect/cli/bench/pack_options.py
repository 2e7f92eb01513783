"""How a network is packed."""

from dataclasses import dataclass
from typing import Any

from torch import nn

import proxconnect
from proxconnect.deploy.fusion import Floats
from proxconnect.deploy.packed import Inputs, Remainder, Vectors


@dataclass(frozen=True)
class PackOptions:
    """What `pack` is told."""

    inputs: Inputs = "exact"
    """How float inputs are multiplied."""
    remainder: Remainder = "float"
    """What layers that are not binary become."""
    vectors: Vectors = "float32"
    """What scales, biases and norms are stored as."""
    floats: Floats | None = None
    """What computes floats in graphs; None as `pack` has it."""

    def pack(self, binary: nn.Module, example: Any = None) -> nn.Module:
        """The packed form of `binary`, proved on `example` where there is one."""
        return proxconnect.pack(
            binary, inputs=self.inputs, remainder=self.remainder, vectors=self.vectors, floats=self.floats,
            example=example,
        )  # fmt: skip

    def __str__(self) -> str:
        said = ["float inputs in 8 bits"] if self.inputs == "int8" else []
        said += ["int8 remainder"] if self.remainder == "int8" else []
        said += ["float16 vectors"] if self.vectors == "float16" else []
        said += [f"floats by {'kernels' if self.floats == 'fast' else 'torch'}"] if self.floats is not None else []
        return ", ".join(said)
