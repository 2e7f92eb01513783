"""Files of whole networks have no more bytes than their weights need."""

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torchvision
from torch import nn

import proxconnect as pc

BUILD = {
    "resnet18": torchvision.models.resnet18,
    "deit_tiny": lambda: timm.create_model("deit_tiny_patch16_224"),
}


def learned(model: nn.Module) -> nn.Module:
    """The model with vectors that no 16 bits hold as they are."""
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.is_floating_point() and tensor.dim() == 1:
            nn.init.uniform_(tensor, 0.5, 1.5)
    return model


@pytest.mark.parametrize(
    ("name", "options", "most"),
    [
        ("resnet18", {}, 3.7e6),
        ("resnet18", {"remainder": "int8", "vectors": "float16"}, 2.0e6),
        ("deit_tiny", {}, 2.41e6),
        ("deit_tiny", {"remainder": "int8", "vectors": "float16"}, 1.21e6),
    ],
)
def test_files(tmp_path: Path, name: str, options: dict[str, Any], most: float) -> None:
    packed = pc.pack(learned(pc.binarize(BUILD[name](), weights="bnn++")), **options)
    pc.save(packed, tmp_path / "a")
    assert (tmp_path / "a").stat().st_size <= most
    image = torch.randn(1, 3, 224, 224)
    with torch.inference_mode():
        assert torch.equal(pc.load(tmp_path / "a", BUILD[name]())(image), packed(image))
