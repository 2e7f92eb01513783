"""Small models that are used wrongly."""

import torch
from torch import Tensor, nn

import proxconnect as pc

SAVED = "network.safetensors"


def net() -> nn.Module:
    return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 16), nn.BatchNorm1d(16), nn.Linear(16, 4))


def images() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 8, 3, padding=1), nn.Flatten(),
                         nn.Linear(288, 4))  # fmt: skip


def binary(weights: str = "bnn++", activations: str | None = None, **options) -> nn.Module:
    return pc.binarize(net(), weights, activations, **options)


def packed() -> nn.Module:
    return pc.pack(binary())


def saved() -> str:
    """The name of a packed file in the current folder."""
    pc.save(packed(), SAVED)
    return SAVED


def rows(columns: int = 8, count: int = 4) -> Tensor:
    return torch.randn(count, columns)


def sgd(model: nn.Module) -> torch.optim.SGD:
    return torch.optim.SGD(model.parameters(), lr=0.1)


def scheduled(model: nn.Module | None = None, **options) -> pc.Sharpening:
    model = binary() if model is None else model
    return pc.Sharpening(sgd(model), model, **({"steps": 5} | options))


def stepped(model: nn.Module) -> None:
    optimizer = sgd(model)
    model(rows()).sum().backward()
    optimizer.step()
