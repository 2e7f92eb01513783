"""The network, the data, the loop and the measures that the tests of training stacks share."""

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim import Optimizer

from proxconnect import Quantizer, Sharpening, binarize

STEPS = 10
"""Optimizer steps until μ reaches its end in these tests."""

SOFT, SHARP = 0.1, 30.0
"""The usual range of μ for bnn++ with a scale."""

OPTIMIZERS: dict[str, Callable[..., Optimizer]] = {
    "SGD": lambda parameters, **kwargs: torch.optim.SGD(parameters, lr=0.1, momentum=0.9, **kwargs),
    "AdamW": lambda parameters, **kwargs: torch.optim.AdamW(parameters, lr=0.01, weight_decay=0.1, **kwargs),
}

Batch = tuple[Tensor, Tensor]


def float_net() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.Tanh(), nn.Conv2d(4, 4, 3), nn.Tanh(), nn.Flatten(),
        nn.Linear(16, 8), nn.Tanh(), nn.Linear(8, 3),
    )  # fmt: skip


def net(seed: int = 0, **choices: Any) -> nn.Sequential:
    """A binary convolution "2" and a binary linear layer "5" between float edges; `choices` are those of `binarize`."""
    torch.manual_seed(seed)
    model = float_net()
    binarize(model, **choices)
    return model


def net_and_optimizer(name: str = "AdamW", **choices: Any) -> tuple[nn.Sequential, Optimizer, Sharpening]:
    model = net(**choices)
    optimizer = OPTIMIZERS[name](model.parameters())
    return model, optimizer, Sharpening(optimizer, model, steps=STEPS)


def batches(count: int = 5, size: int = 8) -> list[Batch]:
    random = torch.Generator().manual_seed(1)
    return [
        (torch.randn(size, 1, 6, 6, generator=random), torch.randint(3, (size,), generator=random))
        for _ in range(count)
    ]


def train(model: nn.Module, optimizer: Optimizer, data: Iterable[Batch]) -> list[float]:
    """One optimizer step a batch; the losses."""
    losses = []
    for images, labels in data:
        optimizer.zero_grad()
        loss = cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def scheduled(steps: int) -> float:
    """μ after so many optimizer steps, by the closed form of "exponential"."""
    done = min(1.0, steps / STEPS)
    return math.exp((1 - done) * math.log(SOFT) + done * math.log(SHARP))


def sharpnesses(model: nn.Module) -> list[float]:
    return [float(module.mu) for module in model.modules() if isinstance(module, Quantizer)]


def whole(tensor: Tensor) -> Tensor:
    """A copy that later steps do not change, gathered where it is sharded."""
    gathered = tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor
    return gathered.detach().clone()


def state(model: nn.Module) -> dict[str, Tensor]:
    return {name: whole(tensor) for name, tensor in model.state_dict().items()}


def distance(first: dict[str, Tensor], second: dict[str, Tensor]) -> float:
    """The largest difference of any entry; infinite for a NaN."""
    assert first.keys() == second.keys()
    largest = [float((first[name] - second[name]).abs().max()) for name in first]
    return math.inf if any(map(math.isnan, largest)) else max(largest)
