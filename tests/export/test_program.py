"""`torch.export` takes packed models, kernels included."""

from pathlib import Path

import pytest
import torch
from torch import nn

import proxconnect as pc

BATCH = torch.export.Dim("batch", min=1, max=64)


def packed(activations: str | None) -> nn.Module:
    layers = [nn.Conv2d(3, 64, 3, padding=1), nn.BatchNorm2d(64), nn.Conv2d(64, 64, 3, padding=1), nn.BatchNorm2d(64)]
    head = [nn.Flatten(), nn.Linear(64 * 64, 128), nn.Linear(128, 5)]
    return pc.pack(pc.binarize(nn.Sequential(*layers, *head), activations=activations).eval())


@pytest.mark.parametrize("activations", [None, "bnn"], ids=["BW", "BWA"])
def test_an_exported_program_is_saved_and_answers_alike(activations: str | None, tmp_path: Path) -> None:
    model, image = packed(activations), torch.randn(2, 3, 8, 8)
    with torch.no_grad():
        program = torch.export.export(model, (image,), dynamic_shapes=({0: BATCH},))
    assert any("proxconnect" in str(node.target) for node in program.graph.nodes)
    torch.export.save(program, tmp_path / "net.pt2")
    loaded = torch.export.load(tmp_path / "net.pt2").module()
    for size in (1, 5):
        image = torch.randn(size, 3, 8, 8)
        torch.testing.assert_close(loaded(image), model(image), rtol=1e-6, atol=1e-6)
