"""Binarize the network of a command as options or a checkpoint say, and pack it as options say."""

import argparse
import warnings
from collections.abc import Iterable
from typing import Any, get_args

from torch import nn

from proxconnect._support.text import some
from proxconnect.cli.networks import FloatNetwork
from proxconnect.cli.parser import Parser, accumulator, pair_name
from proxconnect.conversion import binarize
from proxconnect.deploy.checkpoints import Checkpoint, CheckpointError, Matched, fill, match
from proxconnect.deploy.fusion import Floats
from proxconnect.deploy.packed import Inputs, Remainder, Vectors
from proxconnect.layers import BinaryLayer
from proxconnect.layers.converted import add_thresholds
from proxconnect.layers.parameter import SUFFIX
from proxconnect.quantizer.scales import Scale

ACTIVATIONS = "poly"
"""The pair of binary inputs in modes BWA and BWAA: its forward pass is sign(x) already, so no schedule moves it."""

_ANY_PAIR = "bc"
"""Packing takes signs, which are those of the latents for every pair; this one refuses no μ."""


def add_to(command: Parser) -> None:
    """Add the options that say how the network of a checkpoint was binarized; `trained` reads them."""
    add = command.add_argument_group("how it was binarized").add_argument
    add("--prefix", metavar="NAME.", help="what stands before the network's names in the file; default: found")
    add("--weights", type=pair_name, metavar="PAIR", help="of float weights, which are made binary; default: bnn++")
    add("--activations", type=pair_name, metavar="PAIR", help="of the inputs, beside float weights; default: float")
    add("--keep", nargs="*", metavar="NAME", help="layers that stay float, beside float weights, as of "
        "`proxconnect bench`")  # fmt: skip
    add("--scale", choices=[str(scale).lower() for scale in get_args(get_args(Scale)[0])] + ["none"], default="channel",
        help="what shares a scale; default: channel, or learned where the file has learned ones")  # fmt: skip
    add("--group-size", type=int, metavar="N", help="inputs of a linear layer that share a scale; default: all, or as "
        "many as with the learned ones of the file")  # fmt: skip
    add("--embeddings", action="store_true", help="make embeddings binary too, beside float weights; a tied head needs "
        "--keep alone as well")  # fmt: skip
    add("--accumulator", type=accumulator, metavar="BITS[:OVERFLOW]", help="of the sums of binary inputs; OVERFLOW is "
        "wrap, saturate or cyclic; default: none")  # fmt: skip


def add_packing(command: Parser) -> None:
    """Add --inputs, --remainder, --vectors and --floats, the options of `pc.pack`; `packing_options` reads them."""
    add = command.add_argument_group("what the packed network is").add_argument
    add("--inputs", choices=get_args(Inputs), default="exact", help="how the packed network multiplies float inputs: "
        "exact (default), or rounded to 8 bits by row or image")  # fmt: skip
    add("--remainder", choices=get_args(Remainder), default="float", help="what layers that are not binary become; "
        "default: float")  # fmt: skip
    add("--vectors", choices=get_args(Vectors), default="float32", help="what scales, biases and norms are stored as; "
        "default: float32")  # fmt: skip
    add("--floats", choices=get_args(Floats), help="what computes float convolutions, layer norms, GELUs and "
        "attention here: torch, or kernels, fast; default: fast where no layer has binary inputs")  # fmt: skip


def packing_options(parsed: argparse.Namespace) -> dict[str, Any]:
    """Return the values of the options that `add_packing` adds, as keyword arguments of `pc.pack`."""
    return {name: getattr(parsed, name) for name in ("inputs", "remainder", "vectors", "floats")}


def trained(
    subject: FloatNetwork, checkpoint: Checkpoint, parsed: argparse.Namespace
) -> tuple[nn.Module, Matched, str]:
    """Build the network, binarize it, and load the checkpoint into it.

    If the network is binary as it is built, its layers stay as they are. Otherwise the layers with latent weights in
    the checkpoint become binary. If the checkpoint has none, the options of `add_to` in `parsed` decide.

    Returns the binary model in `eval()`, its tensors in the checkpoint, and a phrase on which of the three cases it is.
    ValueError if an option contradicts the network or the checkpoint, or if their tensors do not match.
    """
    model = subject.build()
    matched = match(checkpoint, model, parsed.prefix)
    scale = None if parsed.scale == "none" else parsed.scale
    if any(isinstance(module, BinaryLayer) for module in model.modules()):
        _refuse(
            parsed,
            "the network is binary as it is built",
            ("weights", "activations", "keep", "accumulator", "embeddings"),
        )
        how = "binary as it is built"
    elif matched.binary_layers:
        _refuse(parsed, "the checkpoint has latents, which say it", ("weights", "activations", "keep", "embeddings"))
        _binarize_as(checkpoint, matched, model, scale, parsed)
        how = f"binary as its latents say, with {_scales(matched, scale, parsed.group_size)}"
    else:
        make_binary(
            model, parsed.weights or "bnn++", parsed.activations, scale=scale, accumulator=parsed.accumulator,
            group_size=parsed.group_size, keep=(subject.keep if parsed.keep is None else parsed.keep) or None,
            embeddings=parsed.embeddings,
        )  # fmt: skip
        how = "its weights are float, made binary by their signs"
    fill(model, matched, checkpoint)
    return model.eval(), matched, how


def make_binary(model: nn.Module, weights: str, activations: str | None, **options: Any) -> nn.Module:
    """Call `pc.binarize` without its warning of inputs of one sign, and with ValueErrors of one line."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*has one sign only")  # `bench` says it with its results
        try:
            return binarize(model, weights, activations, **options)
        except ValueError as error:
            if "\n" not in str(error):
                raise
            # It lists every layer, with advice for callers of `binarize`.
            raise ValueError("no layer would become binary: keep fewer, as --keep alone does") from error


def _refuse(parsed: argparse.Namespace, why: str, names: Iterable[str]) -> None:
    given = [f"--{name}" for name in names if getattr(parsed, name) not in (None, False)]
    if given:
        raise ValueError(f"{why}: leave out {' and '.join(given)}")


def _binarize_as(
    checkpoint: Checkpoint, matched: Matched, model: nn.Module, scale: Scale, parsed: argparse.Namespace
) -> None:
    """Binarize layers that have latents; those with a μ of inputs get binary inputs, and thresholds as they have."""
    layers = {}  # with the names of what `binarize` converts: the attention around a projection, else the layer itself
    for layer in matched.binary_layers:
        owner, _, own = layer.rpartition(".")
        layers[layer] = owner if own.endswith(SUFFIX) else layer
    inputs = {name: _ANY_PAIR for layer, name in layers.items() if matched.has(layer, "input_quantizer.mu")}
    learned = [layer for layer in layers if matched.has(layer, "weight_quantizer.alpha")]
    if learned and len(learned) != len(layers):
        raise CheckpointError(
            f"some scales in {checkpoint.path} are learned and some are not: name a MODULE:CALLABLE that binarizes as "
            "it was trained"
        )
    if parsed.accumulator is not None and not inputs:
        raise ValueError("--accumulator is for binary inputs, which the checkpoint has not")
    binary = set(layers.values())
    try:
        binarize(
            model, _ANY_PAIR, inputs or None, scale="learned" if learned else scale,
            accumulator=parsed.accumulator, keep=lambda name, _: name not in binary,
            group_size=_group_size(matched, learned) if learned else parsed.group_size,
            embeddings=any(isinstance(m, nn.Embedding) for name, m in model.named_modules() if name in binary),
        )  # fmt: skip
    except ValueError as error:
        first = str(error).splitlines()[0]
        raise ValueError(
            f"its latents do not fit the network ({first}): name a MODULE:CALLABLE that binarizes as it was trained"
        ) from error
    if any(matched.has(layer, "input_shift.shift") for layer in layers):
        add_thresholds(model)


def _scales(matched: Matched, scale: Scale, group_size: int | None) -> str:
    """Say what shares a scale, and that options decide it if the checkpoint does not."""
    if any(matched.has(layer, "weight_quantizer.alpha") for layer in matched.binary_layers):
        return "the learned scales of the checkpoint"
    shared = {"channel": "a scale per output channel", "tensor": "a scale per layer", None: "no scale"}
    given = f"a scale per {group_size} inputs of linear layers" if group_size else shared.get(scale, f"scale {scale}")
    return f"{given}; the checkpoint does not record scales, so see --scale and --group-size"


def _group_size(matched: Matched, learned: Iterable[str]) -> int | None:
    """Return the number of inputs that share a learned scale in the linear layers of these names; None if all do."""
    tensors = matched.tensors
    pairs = [(tensors[f"{layer}.latent"], tensors[f"{layer}.weight_quantizer.alpha"]) for layer in learned]
    sizes = {latent.numel() // alpha.numel() for latent, alpha in pairs if latent.dim() == alpha.dim() == 2}
    if len(sizes) > 1:
        raise ValueError(f"learned scales of groups of {some([str(size) for size in sorted(sizes)])} inputs")
    return next(iter(sizes), None)
