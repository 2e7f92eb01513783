"""Binary networks that the tests of fusion share."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import proxconnect as pc
from proxconnect import kernels
from proxconnect.deploy.fusion import layer_by_layer
from proxconnect.deploy.fusion.steps import adds_in_one_step

folds_norms = pytest.mark.skipif(not adds_in_one_step(), reason="torch rounds norms twice here, so that none is fused")
has_float_convs = pytest.mark.skipif(not kernels.has_float_kernels(), reason="torch convolves floats here")


class Block(nn.Module):
    """A convolution with its norm, a shortcut around both and an activation, as in Bi-Real Net."""

    def __init__(self, channels: int, activation: nn.Module) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(channels)
        self.relu = activation  # whatever it is, as in torchvision's ResNet

    def forward(self, image: Tensor) -> Tensor:
        return self.relu(self.norm(self.conv(image)) + image)


def residual(channels: int = 16) -> nn.Sequential:
    """A stem, two blocks whose activations give both signs, and a head."""
    return nn.Sequential(
        nn.Conv2d(3, channels, 3), nn.BatchNorm2d(channels), Block(channels, nn.PReLU(channels)),
        Block(channels, nn.Hardtanh()), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 5),
    )  # fmt: skip


def plain(channels: int = 64) -> nn.Sequential:
    """Convolutions between which nothing but norms and activations stands, and linear layers."""
    return nn.Sequential(
        nn.Conv2d(3, channels, 3), nn.BatchNorm2d(channels), nn.Conv2d(channels, channels, 3, padding=1),
        nn.BatchNorm2d(channels), nn.Hardtanh(), nn.Conv2d(channels, 48, 3, stride=2), nn.BatchNorm2d(48), nn.ReLU(),
        nn.BatchNorm2d(48), nn.Conv2d(48, channels, 1), nn.GELU(), nn.Conv2d(channels, channels, 3, groups=4),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 70), nn.BatchNorm1d(70), nn.Linear(70, 30),
        nn.Dropout(), nn.Linear(30, 5),
    )  # fmt: skip


class Mixer(nn.Module):
    """A residual block of rows, as a transformer's without its attention."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.up, self.down = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)
        self.act, self.drop = nn.GELU(), nn.Dropout()

    def forward(self, rows: Tensor) -> Tensor:
        return rows + self.drop(self.down(self.act(self.up(self.norm(rows)))))


def mixer(width: int = 40) -> nn.Sequential:
    """Linear layers of rows, with norms, activations and additions behind them, and a convolution in front."""
    return nn.Sequential(
        nn.Conv2d(3, width, 3), nn.Flatten(2), nn.Linear(100, width), Mixer(width), nn.ReLU(), Mixer(width),
        nn.Linear(width, 30, bias=False), nn.Hardtanh(), nn.Flatten(), nn.Linear(30 * width, 70), nn.BatchNorm1d(70),
        nn.PReLU(70), nn.Linear(70, 5),
    )  # fmt: skip


@torch.no_grad()
def unlike_new(model: nn.Module) -> nn.Module:
    """With norms of all kinds: gamma of both signs, zero and tiny, and no variance."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            for tensor in (module.weight, module.bias, module.running_mean):
                tensor.normal_()
            module.running_var.uniform_(0.1, 2.0)
            module.weight[0], module.weight[1], module.running_var[2] = 0.0, -1e-20, 0.0
    return model


def binary(model: nn.Module, **options: Any) -> nn.Module:
    """Its binary form, with binary activations unless said otherwise, as if trained."""
    options.setdefault("activations", "poly")
    return pc.binarize(unlike_new(model), weights="bnn++", **options).eval().requires_grad_(False)


def image(size: int = 12, batch: int = 2) -> Tensor:
    """One in the memory format that fused graphs compute in."""
    return torch.randn(batch, 3, size, size).contiguous(memory_format=torch.channels_last)


def by_layers(model: nn.Module, *inputs: Tensor) -> Any:
    """The output of the layers one by one, without their graph."""
    with layer_by_layer(model), torch.no_grad():
        return model(*inputs)
