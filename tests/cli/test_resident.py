"""The memory of fresh processes that load a network's files."""

import copy

import pytest
import torch
from torch import nn

from proxconnect import binarize, pack, save
from proxconnect.bench.memory import own_peak
from proxconnect.cli import resident

THEIRS = """
from torch import nn

def net():
    return nn.Sequential(*[nn.Linear(2000, 2000, bias=False) for _ in range(5)])
"""

LAYER = 4 * 2000 * 2000


@pytest.mark.skipif(own_peak() is None, reason="this system does not say")
def test_float_weights_are_held_and_packed_ones_are_not(folder):
    (folder / "theirs.py").write_text(THEIRS)
    model, example = nn.Sequential(*[nn.Linear(2000, 2000, bias=False) for _ in range(5)]), torch.randn(1, 2000)
    torch.save(model.state_dict(), folder / "float.pt")
    save(pack(binarize(copy.deepcopy(model), "bc", keep=None)), folder / "packed.safetensors")
    found = resident.peaks("theirs:net", example, folder, threads=1)
    assert 5 * LAYER < found["float"] < 7 * LAYER
    assert found["packed"] < found["float"] - LAYER


def test_a_process_that_fails_is_a_line(folder):
    (folder / "theirs.py").write_text(THEIRS)
    said = resident.peaks("theirs:net", torch.randn(1, 2000), folder, threads=1)
    assert said.startswith("a fresh process failed: FileNotFoundError")
