"""Tiny networks to live through many changes, and the ways in which they are made binary."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from hypothesis import strategies as st
from torch import Tensor, nn

import proxconnect as pc


class Experts(nn.Module):
    """Two stacked weights, which are raw parameters, and an attention before them."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.experts = nn.Parameter(torch.randn(2, 8, 8))
        self.norm = nn.LayerNorm(8)
        self.head = nn.Linear(8, 3)

    def forward(self, tokens: Tensor) -> Tensor:
        hidden = tokens + self.attention(tokens, tokens, tokens, need_weights=False)[0]
        return self.head(self.norm(torch.einsum("bti,eoi->bto", hidden, self.experts)))


class Network(NamedTuple):
    """How a float network is built, what it takes, and what follows `binarize`."""

    build: Callable[[], nn.Module]
    sizes: tuple[int, ...]
    words: int = 0
    """The number of words, where it takes whole numbers."""
    is_exact: bool = True
    """Whether all but its binary layers is to the bit what it is in a packed copy."""
    raw: str = ""
    """The parameter that `binarize_parameter` makes binary."""

    def example(self, seed: int, dtype: torch.dtype = torch.float32) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        if self.words:
            return torch.randint(self.words, (3, *self.sizes), generator=generator)
        return torch.randn(3, *self.sizes, generator=generator).to(dtype)


def dense() -> nn.Module:
    shared = nn.Linear(8, 8, bias=False)
    return nn.Sequential(
        nn.Linear(6, 8), nn.BatchNorm1d(8), nn.PReLU(), nn.Linear(8, 8), nn.LayerNorm(8), shared, nn.Hardtanh(), shared,
        nn.Linear(8, 3),
    )  # fmt: skip


def images() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), nn.PReLU(), nn.Conv2d(4, 8, 3, stride=2, padding=1),
        nn.BatchNorm2d(8), nn.Hardtanh(), nn.Conv2d(8, 8, 3, padding=1, groups=2), nn.BatchNorm2d(8), nn.Flatten(),
        nn.Linear(32, 3),
    )  # fmt: skip


def waves() -> nn.Module:
    return nn.Sequential(
        nn.Conv1d(2, 4, 3, padding=1), nn.BatchNorm1d(4), nn.PReLU(), nn.ConvTranspose1d(4, 6, 2, stride=2, groups=2),
        nn.BatchNorm1d(6), nn.Conv1d(6, 3, 3),
    )  # fmt: skip


def tokens() -> nn.Module:
    layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, activation="gelu", batch_first=True)
    return nn.Sequential(nn.Embedding(7, 8), layer, nn.Linear(8, 8), nn.Linear(8, 3))


NETWORKS = {
    "dense": Network(dense, (6,)),
    "images": Network(images, (2, 4, 4)),
    "waves": Network(waves, (2, 5)),
    "tokens": Network(tokens, (4,), words=7, is_exact=False),
    "experts": Network(Experts, (4, 8), is_exact=False, raw="experts"),
}


class Way(NamedTuple):
    """With what a network is made binary."""

    weights: str
    activations: str | None
    scale: Any
    accumulator: pc.Accumulator | None
    keep: Any
    has_thresholds: bool


ACCUMULATORS = (pc.Accumulator(bits=3), pc.Accumulator(bits=4, overflow="saturate"))
SOFT_SIGNS = [name for name, pair in pc.PAIRS.items() if not pair.is_identity]


@st.composite
def ways(draw: st.DrawFn) -> Way:
    """All that `binarize` takes."""
    weights = draw(st.sampled_from(list(pc.PAIRS)))
    activations = draw(st.none() | st.sampled_from(SOFT_SIGNS))
    scales = ["channel", "tensor", None] if weights == "fp" else ["channel", "tensor", None, "learned"]
    accumulator = draw(st.none() | st.sampled_from(ACCUMULATORS)) if activations else None
    keep = draw(st.sampled_from(["edges", None]))
    return Way(
        weights,
        activations,
        draw(st.sampled_from(scales)),
        accumulator,
        keep,
        bool(activations) and draw(st.booleans()),
    )


def floats(network: Network, seed: int) -> nn.Module:
    """A float network by this seed, which leaves the generator of torch as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return network.build()


def binary(network: Network, way: Way, seed: int) -> nn.Module:
    """The same made binary."""
    model = pc.binarize(
        floats(network, seed), way.weights, way.activations, scale=way.scale, accumulator=way.accumulator, keep=way.keep
    )
    if network.raw:
        pc.binarize_parameter(model, network.raw, weights=way.weights, scale=way.scale, channel_dims=(0, 1))
    return pc.add_thresholds(model) if way.has_thresholds else model
