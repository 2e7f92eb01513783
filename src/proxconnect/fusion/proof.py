"""Whether a packed model answers as the hard binary model does, shown on an example."""

from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from torch import nn
from torch.utils._pytree import tree_map

from proxconnect.example import run
from proxconnect.fusion.attachment import fused_forward, layer_by_layer
from proxconnect.fusion.comparison import ROUNDING, Comparison, ProofError, gap
from proxconnect.fusion.layout import with_channels_last
from proxconnect.modes import hard
from proxconnect.packed.halves import vectors_of


@dataclass(frozen=True)
class Proof:
    """What an example showed. A gap is the largest |Δ| by the largest entry; 0 means equal to the bit."""

    signs: int
    """Binary layers with binary inputs."""
    signs_gap: float
    """Their largest gap, which is 0 unless vectors are in 16 bits."""
    floats: int
    """Binary layers with float inputs."""
    floats_gap: float
    """Their largest gap, from the order of a sum, or from the rounding to 8 bits."""
    rounded: int
    """Float layers that became int8."""
    rounded_gap: float
    """Their largest gap, which is within the bound that `Int8Layer` states."""
    graph_gap: float
    """That of the fused graph to the same layers one after another."""
    answer_gap: float
    """That of the whole packed model to the whole hard one."""

    def __str__(self) -> str:
        shown = [
            (self.signs, f"{self.signs} binary layers with binary inputs", self.signs_gap),
            (self.floats, f"{self.floats} binary layers with float inputs", self.floats_gap),
            (self.rounded, f"{self.rounded} float layers in int8", self.rounded_gap),
            (True, "the fused graph, beside its layers one by one", self.graph_gap),
            (True, "the whole answer, beside the hard model's", self.answer_gap),
        ]
        return "\n".join(f"{what}: {_as_words(gap)}" for is_there, what, gap in shown if is_there)


def prove(model: nn.Module, packed: nn.Module, example: Any) -> Proof:
    """Hold `packed` against `model`, whose packed form it is, on an example, as `summary` takes it.

    Every packed layer gets what its binary layer gets in the hard model and must answer the same; the fused graph must
    answer as its layers do one after another; and the whole answers are compared. Where floats are rounded in another
    order before a sign, that sign may turn at values near 0, which no equality of layers excludes: the gap of the whole
    says it. Images have their channels last where the graph has, since torch rounds otherwise in C order.

    ProofError where a layer or the graph differs by more than rounding.
    """
    if (fused := fused_forward(packed)) is not None and fused.has_images:
        example = _laid_out(packed, example)
    gaps = Comparison(has_halves=vectors_of(packed) == "float16")
    with hard(model), ExitStack() as stack:
        for name, mine in packed.named_modules():
            stack.enter_context(gaps.watching(name, model.get_submodule(name), mine))
        expected = run(model, example)
    if gaps.fault:
        raise ProofError(gaps.fault)
    answer = run(packed, example)
    with layer_by_layer(packed):
        graph_gap = gap(run(packed, example), answer)
    if not graph_gap <= ROUNDING:
        raise ProofError(f"the fused graph and its layers one by one are apart by {graph_gap:.1e} of the largest entry")
    return Proof(
        signs=len(gaps.signs), signs_gap=max(gaps.signs.values(), default=0.0),
        floats=len(gaps.floats), floats_gap=max(gaps.floats.values(), default=0.0),
        rounded=len(gaps.rounded), rounded_gap=max(gaps.rounded.values(), default=0.0),
        graph_gap=graph_gap, answer_gap=gap(expected, answer),
    )  # fmt: skip


def _laid_out(packed: nn.Module, example: Any) -> Any:
    """An example with its images as the graph has them, unless the model's own forward cannot view them so."""
    with_last = tree_map(with_channels_last, example)
    try:
        with layer_by_layer(packed):
            run(packed, with_last)
    except RuntimeError:
        return example
    return with_last


def _as_words(gap: float) -> str:
    return "equal to the bit" if gap == 0 else f"apart by {gap:.1e} of the largest entry"
