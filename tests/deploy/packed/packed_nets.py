"""Networks that the tests of packing share."""

from typing import Any

import torch
from torch import Tensor, nn

from proxconnect.layers import BinaryConv2d, BinaryLinear


class Shared(nn.Module):
    """One convolution under two names, an output layer tied to an embedding, and a buffer that no file holds."""

    def __init__(self, device: Any = None) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1, device=device), nn.BatchNorm2d(6, device=device))
        self.inner = nn.Conv2d(6, 6, 3, padding=1, groups=2, bias=False, device=device)
        self.again = self.inner
        self.embedding = nn.Embedding(5, 6, device=device)
        self.output = nn.Linear(6, 5, bias=False, device=device)
        self.output.weight = self.embedding.weight
        self.register_buffer("shift", torch.tensor(0.3, device="cpu"), persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        hidden = self.again(self.inner(self.features(image) - self.shift))
        return self.output(hidden.mean((2, 3)) + self.embedding.weight[0])


def binary_shared() -> tuple[Shared, Shared]:
    """The float architecture, and a binary network of it with other weights, after a step of its batch norm."""
    model = Shared()
    BinaryConv2d.convert(model.features[0], scale="tensor")
    BinaryConv2d.convert(model.inner, weights="bnn", activations="poly").set_padding_value(-1)
    model(torch.randn(4, 3, 5, 5))
    return Shared(), model


class MLP(nn.Module):
    """Two linear layers around a float norm."""

    def __init__(self, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.first = nn.Linear(5, 7, dtype=dtype)
        self.norm = nn.LayerNorm(7, dtype=dtype)
        self.last = nn.Linear(7, 3, dtype=dtype)

    def forward(self, input: Tensor) -> Tensor:
        return self.last(self.norm(self.first(input)))


def binary_mlp(dtype: torch.dtype = torch.float32) -> MLP:
    """An MLP whose linear layers are binary, the last with binary inputs."""
    model = MLP(dtype)
    BinaryLinear.convert(model.first)
    BinaryLinear.convert(model.last, activations="poly", scale=None)
    return model
