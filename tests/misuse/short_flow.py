"""A user's short flow: binarize, train, pack, save, load, summarise."""

from pathlib import Path

import torch
from torch import nn

import proxconnect as pc


def network() -> nn.Module:
    return nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.Linear(16, 16), nn.BatchNorm1d(16), nn.Linear(16, 4))


def flow(folder: Path) -> None:
    example = torch.randn(16, 8)
    model = pc.binarize(network(), "bnn++", "poly", example=example)
    optimizer = torch.optim.AdamW(model.parameters())
    pc.Sharpening(optimizer, model, steps=3, hold=1)
    for _ in range(3):
        optimizer.zero_grad()
        model(example).square().mean().backward()
        optimizer.step()
    pc.reestimate_batchnorm(model, [example])
    pc.save(pc.pack(model, example=example), folder / "network.safetensors")
    packed = pc.load(folder / "network.safetensors", network())
    torch.testing.assert_close(packed(example), model.eval()(example))
    print(pc.summary(packed, example))
