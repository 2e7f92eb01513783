"""The memory of fresh processes that load a network's files."""

import copy

import pytest
import torch
from torch import nn

from proxconnect import binarize, pack, save
from proxconnect.cli.bench import peak_memory
from proxconnect.inspection.memory import own_peak

THEIRS = """
import torch
from torch import nn

def net():
    model = nn.Sequential(*[nn.Linear(1500, 1500, bias=False) for _ in range(5)])
    model[0].register_buffer("shift", torch.arange(5.0), persistent=False)
    return model
"""

LAYER = 4 * 1500 * 1500


@pytest.mark.skipif(own_peak() is None, reason="this system does not say")
def test_float_weights_are_held_and_packed_ones_are_not(folder):
    (folder / "theirs.py").write_text(THEIRS)
    model, example = nn.Sequential(*[nn.Linear(1500, 1500, bias=False) for _ in range(5)]), torch.randn(1, 1500)
    torch.save(model.state_dict(), folder / "float.pt")
    save(pack(binarize(copy.deepcopy(model), "bc", keep=None)), folder / "packed.safetensors")
    found = peak_memory.peaks("theirs:net", example, folder, threads=1)
    assert 5 * LAYER < found["float"] < 7 * LAYER
    assert found["packed"] < found["float"] - LAYER


def test_a_process_that_fails_is_a_line(folder, monkeypatch):
    python = folder / "python"
    python.write_text("#!/bin/sh\necho Traceback >&2\necho 'FileNotFoundError: float.pt' >&2\nexit 1\n")
    python.chmod(0o755)
    monkeypatch.setattr(peak_memory.sys, "executable", str(python))
    said = peak_memory.peaks("theirs:net", torch.randn(1, 1500), folder, threads=1)
    assert said.startswith("a fresh process failed: FileNotFoundError")


def test_a_network_that_files_hold_whole_takes_no_memory():
    model = peak_memory._without_memory(lambda: nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3)))
    assert all(tensor.is_meta for tensor in model.state_dict().values())


def test_values_that_no_file_holds_are_built():
    def build() -> nn.Module:
        model = nn.Linear(3, 3)
        model.register_buffer("shift", torch.arange(5.0), persistent=False)
        return model

    model = peak_memory._without_memory(build)
    assert model.weight.is_meta
    assert model.shift.tolist() == [0, 1, 2, 3, 4]

    def blank() -> nn.Module:
        model = build()
        model.register_buffer("blank", torch.empty(2), persistent=False)
        return model

    assert peak_memory._without_memory(blank) is None
