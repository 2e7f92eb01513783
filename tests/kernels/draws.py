"""Random numbers and their signs, and the instruction sets of this machine, for the tests of kernels."""

import pytest
import torch
from torch import Tensor

from proxconnect import kernels

each = pytest.mark.parametrize("instruction_set", kernels.instruction_sets())


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def signs(x: Tensor) -> Tensor:
    return torch.where(x >= 0, 1.0, -1.0)
