"""Layers that share one weight, as a head and an embedding do: binary together, with one latent, or float together."""

from typing import Any

from torch import nn

from proxconnect.conversion.eligibility import WeightLayer
from proxconnect.layers import BinaryEmbedding, BinaryLayer
from proxconnect.layers.embedding import share_quantizer
from proxconnect.pairs import AnyPair

Decision = tuple[WeightLayer, AnyPair | None, AnyPair | None, str]
"""A layer, the pairs of its weights and of its inputs (None: float), and the reason why one of them is float."""


def agreed(decisions: list[Decision]) -> list[Decision]:
    """Return the decisions with layers of one weight all float if one of them is; ValueError if their pairs differ."""
    tied: dict[int, list[Decision]] = {}
    for decision in decisions:
        if not decision[0].obstacle and len(decision[0].weights) == 1:
            tied.setdefault(id(decision[0].weights[0]), []).append(decision)
    return [_with_others(decision, tied) for decision in decisions]


def _with_others(decision: Decision, tied: dict[int, list[Decision]]) -> Decision:
    layer, pair, input_pair, reason = decision
    others = [] if layer.obstacle or len(layer.weights) != 1 else tied[id(layer.weights[0])]
    for other, other_pair, _, other_reason in others:
        if pair is not None and other_pair is None:
            return layer, None, None, f"tied to {other.name}, which stays float: {other_reason}"
        if pair is not None and other_pair is not None and other_pair != pair:
            raise ValueError(
                f"weights: {layer.name!r} and {other.name!r} are tied and have one latent, but the pairs "
                f"{pair.name!r} and {other_pair.name!r}: give both the same one, or untie them first"
            )
    if pair is None or len(others) < 2:
        return decision
    first = others[0][0]
    return layer, pair, input_pair, reason if layer is first else f"tied to {first.name}"


def require_embedding(decisions: list[Decision]) -> None:
    """Raise ValueError, with the first reason, unless an embedding becomes binary."""
    found = [(layer, pair, why) for layer, pair, _, why in decisions if isinstance(layer.module, nn.Embedding)]
    if any(pair is not None for _, pair, _ in found):
        return
    if not found:
        raise ValueError(
            "binarize(embeddings=True) is for a model with an nn.Embedding, and this one has none: leave it out"
        )
    layer, _, reason = found[0]
    advice = ". Pass a `keep` without it, such as None" if "edge" in reason or "keep" in reason else ""
    raise ValueError(
        f"binarize(embeddings=True) makes no embedding binary: {layer.name or 'the model'}: {reason}{advice}"
    )


def tie(model: nn.Module) -> None:
    """Let the binary layers of `model` that share a latent share a quantizer, and tell transformers of the latents."""
    groups: dict[int, list[BinaryLayer]] = {}
    for module in model.modules():
        if isinstance(module, BinaryLayer):
            groups.setdefault(id(module.latent), []).append(module)
    for layers in groups.values():
        if any(isinstance(layer, BinaryEmbedding) for layer in layers):
            share_quantizer(layers)
    for module in model.modules():
        if isinstance(getattr(module, "_tied_weights_keys", None), dict):
            _rename(module)


def _rename(model: Any) -> None:
    """Write the names of latents into the maps by which a model of transformers ties, saves and loads its weights."""
    for attribute in ("_tied_weights_keys", "all_tied_weights_keys"):
        keys: dict[str, str] = {}
        for target, source in (getattr(model, attribute, None) or {}).items():
            parts = _shared_parts(model, target, source)
            if attribute == "all_tied_weights_keys":  # of parameters alone
                parts = [part for part in parts if not part.endswith(".mu")]
            ends = (target.removesuffix("weight"), source.removesuffix("weight"))
            keys |= {f"{ends[0]}{part}": f"{ends[1]}{part}" for part in parts} or {target: source}
        if keys:
            setattr(model, attribute, keys)


def _shared_parts(model: nn.Module, target: str, source: str) -> list[str]:
    """Return the names of the tensors that two binary layers share, given the names of their weights; [] if none."""
    modules = dict(model.named_modules(remove_duplicate=False))
    first, second = (modules.get(name.removesuffix(".weight")) for name in (source, target))
    if not isinstance(first, BinaryLayer) or not isinstance(second, BinaryLayer) or first.latent is not second.latent:
        return []
    return ["latent", *(f"weight_quantizer.{name}" for name in first.weight_quantizer.state_dict())]
