"""Options of a run: which layers become binary, by which pairs, and how their sharpness moves."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, cast

import torch
from torch import nn
from torch.optim import Optimizer

from proxconnect._support.user_code import load
from proxconnect.conversion import binarize
from proxconnect.conversion.patterns import PairChoice
from proxconnect.layers import Accumulator
from proxconnect.layers.converted import add_thresholds
from proxconnect.optim.sharpening import Part, Shape, Sharpening
from proxconnect.pairs import AnyPair, resolve

PairNames = str | dict[str, str | None]
"""The name of a pair, or names by patterns of layers; MODULE:NAME names a pair of your own."""


@dataclass(frozen=True)
class Binarization:
    """The options of a run for `proxconnect.binarize`; ValueError for an unknown pair; MODULE:NAME is not checked.

    Args:
        weights: the pair of the weights, by its name, in words as "clip of gap(1, 1)", or as MODULE:NAME; or such
            names by patterns of layers, of which the first that fits decides.
        activations: the pair of the inputs of binary layers; null leaves them float.
        scale: channel (one for each), tensor (one for all), learned, or null for none.
        accumulator: for sums of binary inputs, as {bits: 8, overflow: wrap}; null for no limit.
        keep: layers that stay float: edges, or patterns; null for none.
        padding_value: of convolutions of binary inputs: 0, 1 or -1.
        thresholds: learn a threshold for each channel of binary inputs (RSign, arXiv 2003.03488).
        threshold_start: the learned thresholds at first; positive behind ReLUs, as 0.5.
        group_size: inputs of a linear layer that share a scale, as 128; null for one scale a channel.
        embeddings: make embeddings binary too; a tied head becomes binary with its embedding, if keep is null.
    """

    weights: PairNames = "bnn++"
    activations: PairNames | None = None
    scale: Literal["channel", "tensor", "learned"] | None = "channel"
    accumulator: Accumulator | None = None
    keep: tuple[str, ...] | None = ("edges",)
    padding_value: int = 0
    thresholds: bool = False
    threshold_start: float = 0.0
    group_size: int | None = None
    embeddings: bool = False

    def __post_init__(self) -> None:
        for names in (self.weights, self.activations):
            for name in names.values() if isinstance(names, Mapping) else (names,):
                if name is not None and ":" not in name:
                    resolve(name)

    def apply(self, network: nn.Module, example: torch.Tensor) -> nn.Module:
        """Binarize `network` in place and return it; `example` is an input batch for it.

        Raises as `proxconnect.binarize` and `add_thresholds`; LoadError for a MODULE:NAME that cannot be loaded.
        """
        binarize(
            network, _pairs(self.weights), _pairs(self.activations), scale=self.scale, accumulator=self.accumulator,
            keep=list(self.keep) if self.keep else None, example=example, padding_value=self.padding_value,
            group_size=self.group_size, embeddings=self.embeddings,
        )  # fmt: skip
        return add_thresholds(network, self.threshold_start) if self.thresholds else network


def _pairs(names: PairNames | None) -> PairChoice:
    return {pattern: _pair(name) for pattern, name in names.items()} if isinstance(names, dict) else _pair(names)


def _pair(name: str | None) -> str | AnyPair | None:
    return cast(AnyPair, load(name)) if name is not None and ":" in name else name


@dataclass(frozen=True)
class Course:
    """The options of a `Sharpening`: how the sharpness μ moves over a run.

    Args:
        start: μ before the first step; null takes the pair's usual start, or 1 if the shape is cumulative. If start and
            end are null, pairs with a fixed μ, such as bnn+, do not move.
        end: μ at the end; null takes the pair's usual end, or no limit if cumulative. Leave it null if constant.
        shape: exponential, linear, cosine, constant or cumulative.
        hold: the last share of all steps, in [0, 1), in which μ stays at its end; ignored if constant or cumulative.
    """

    start: float | None = None
    end: float | None = None
    shape: Shape = "exponential"
    hold: float = 0.1

    def __post_init__(self) -> None:
        if not 0 <= self.hold < 1:
            raise ValueError(f"hold is a share of all steps, from 0 to below 1; got {self.hold}")

    def attach(self, optimizer: Optimizer, network: nn.Module, steps: int, part: Part) -> Sharpening:
        """Attach a new `Sharpening` of `network` to `optimizer`, for a run of `steps` optimizer steps, and return it.

        `part` says which pairs move: those of the "weights", of the "activations", or "both".
        """
        is_timed = self.shape not in ("constant", "cumulative")
        length = {"steps": steps, "hold": math.floor(self.hold * steps)} if is_timed else {}
        return Sharpening(optimizer, network, start=self.start, end=self.end, shape=self.shape, part=part, **length)


@dataclass(frozen=True)
class Courses:
    """The options for how μ moves over a run, for weights and for soft activations.

    Args:
        weights: how μ of the weights moves.
        activations: how μ of the activations moves; null keeps it at the pair's fixed μ or, without one, usual start.
    """

    weights: Course = field(default_factory=Course)
    activations: Course | None = None
