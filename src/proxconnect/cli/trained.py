"""A checkpoint as the binary model that was trained, by the architecture that code builds."""

import argparse
import warnings
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any, get_args

from torch import nn

from proxconnect.cli.bench import Network
from proxconnect.cli.parser import Parser, accumulator, pair_name
from proxconnect.conversion import binarize
from proxconnect.deploy.checkpoints import Checkpoint, CheckpointError, Matched, fill, match
from proxconnect.layers import Accumulator, BinaryLayer
from proxconnect.layers.parameter import SUFFIX
from proxconnect.layers.thresholds import add_thresholds
from proxconnect.quantizer.quantizer import Scale

_ANY_PAIR = "bc"
"""Packed are signs, which are those of the latents by every pair; this one refuses no μ."""


@dataclass(frozen=True)
class Choices:
    """What the command line says of binarization; None for what it leaves to the checkpoint and the network."""

    weights: str | None = None
    activations: str | None = None
    keep: tuple[str, ...] | None = None
    scale: Scale = "channel"
    accumulator: Accumulator | None = None


@dataclass(frozen=True)
class Trained:
    """A binary model with the values of a checkpoint."""

    model: nn.Module
    matched: Matched
    how: str
    """Who said which layers are binary."""


def add_to(command: Parser) -> None:
    """Add the options of `Choices` and the architecture's."""
    add = command.add_argument_group("how it was binarized").add_argument
    add("--prefix", metavar="NAME.", help="what stands before the network's names in the file; default: found")
    add("--weights", type=pair_name, metavar="PAIR", help="of float weights, which are made binary; default: bnn++")
    add("--activations", type=pair_name, metavar="PAIR", help="of the inputs, beside float weights; default: float")
    add("--keep", nargs="*", metavar="NAME", help="layers that stay float, beside float weights, as of "
        "`proxconnect bench`")  # fmt: skip
    add("--scale", choices=[str(scale).lower() for scale in get_args(get_args(Scale)[0])] + ["none"], default="channel",
        help="what shares a scale; default: channel, or learned where the file has learned ones")  # fmt: skip
    add("--accumulator", type=accumulator, metavar="BITS[:OVERFLOW]", help="of the sums of binary inputs; OVERFLOW is "
        "wrap, saturate or cyclic; default: none")  # fmt: skip


def choices(parsed: argparse.Namespace) -> Choices:
    """What the options say."""
    return Choices(
        parsed.weights, parsed.activations, None if parsed.keep is None else tuple(parsed.keep),
        None if parsed.scale == "none" else parsed.scale, parsed.accumulator,
    )  # fmt: skip


def trained(subject: Network, checkpoint: Checkpoint, choices: Choices, prefix: str | None = None) -> Trained:
    """The binary model of the checkpoint, in `eval()`.

    Which layers are binary the network says, where it is binary as it is built; else the latents of the checkpoint;
    else, where its weights are float, `choices`. ValueError where they contradict one another, and for tensors that do
    not fit.
    """
    model = subject.build()
    matched = match(checkpoint, model, prefix)
    if any(isinstance(module, BinaryLayer) for module in model.modules()):
        _refuse(choices, "the network is binary as it is built", ("weights", "activations", "keep", "accumulator"))
        how = "binary as it is built"
    elif matched.binary_layers:
        _refuse(choices, "the checkpoint has latents, which say it", ("weights", "activations", "keep"))
        _binarize_as(matched, model, choices)
        how = "binary as its latents say"
    else:
        _binarize_by(choices, model, subject.keep)
        how = "its weights are float, made binary by their signs"
    fill(model, matched, checkpoint)
    return Trained(model.eval(), matched, how)


def _refuse(choices: Choices, why: str, names: Iterable[str]) -> None:
    given = [f"--{name}" for name in names if getattr(choices, name) is not None]
    if given:
        raise ValueError(f"{why}: leave out {' and '.join(given)}")


def _binarize_as(matched: Matched, model: nn.Module, choices: Choices) -> None:
    """Make binary what has latents, with binary inputs where the checkpoint has their μ, and thresholds as it has."""
    layers = {layer: _converted_name(layer) for layer in matched.binary_layers}
    inputs = {name: _ANY_PAIR for layer, name in layers.items() if matched.has(layer, "input_quantizer.mu")}
    learned = [layer for layer in layers if matched.has(layer, "weight_quantizer.alpha")]
    if learned and len(learned) != len(layers):
        raise CheckpointError(
            "some of its scales are learned and some are not: name a MODULE:CALLABLE that binarizes as it was trained"
        )
    if choices.accumulator is not None and not inputs:
        raise ValueError("--accumulator is for binary inputs, which the checkpoint has not")
    binary = set(layers.values())
    try:
        binarize(
            model, _ANY_PAIR, inputs or None, scale="learned" if learned else choices.scale,
            accumulator=choices.accumulator, keep=lambda name, _: name not in binary,
        )  # fmt: skip
    except ValueError as error:
        first = str(error).splitlines()[0]
        raise ValueError(
            f"its latents do not fit the network ({first}): name a MODULE:CALLABLE that binarizes as it was trained"
        ) from error
    if any(matched.has(layer, "input_shift.shift") for layer in layers):
        add_thresholds(model)


def _converted_name(layer: str) -> str:
    """The layer that `binarize` converts for this one: the attention around a projection, else itself."""
    owner, _, own = layer.rpartition(".")
    return owner if own.endswith(SUFFIX) else layer


def _binarize_by(choices: Choices, model: nn.Module, usual_keep: Collection[str]) -> None:
    keep: Any = usual_keep if choices.keep is None else choices.keep
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*has one sign only")
        try:
            binarize(
                model, choices.weights or "bnn++", choices.activations, scale=choices.scale,
                accumulator=choices.accumulator, keep=keep or None,
            )  # fmt: skip
        except ValueError as error:
            if "\n" not in str(error):
                raise
            raise ValueError("no layer would become binary: keep fewer, as --keep alone does") from error
