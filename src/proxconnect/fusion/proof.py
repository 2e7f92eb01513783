"""Whether a packed model answers as the hard binary model does, shown on an example."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from proxconnect.example import run, tensors_in
from proxconnect.fusion.attachment import fused_forward, layer_by_layer
from proxconnect.fusion.layout import with_channels_last
from proxconnect.layers import BinaryLayer
from proxconnect.modes import hard
from proxconnect.packed import PackedLayer

_ROUNDING = 1e-4
"""By how much of its largest entry a sum of floats may change with its order."""


class ProofError(RuntimeError):
    """A packed model does not answer as the hard binary model does; the message says where."""


@dataclass(frozen=True)
class Proof:
    """What an example showed. A gap is the largest |Δ| by the largest entry; 0 means equal to the bit."""

    signs: int
    """Binary layers with binary inputs, whose answers equal those of the hard ones to the bit."""
    floats: int
    """Binary layers with float inputs."""
    float_gap: float
    """Their largest gap, of the order of a sum, or of the rounding to 8 bits."""
    rounded: int
    """Float layers that became int8."""
    rounded_gap: float
    """Their largest gap."""
    graph_gap: float
    """That of the fused graph to the same layers one after another."""
    answer_gap: float
    """That of the whole packed model to the whole hard one."""

    def __str__(self) -> str:
        shown = [
            (self.signs, f"{self.signs} binary layers with binary inputs", 0.0),
            (self.floats, f"{self.floats} binary layers with float inputs", self.float_gap),
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
        example = tree_map(with_channels_last, example)
    comparison = _Comparison()
    with hard(model), ExitStack() as stack:
        for name, mine in packed.named_modules():
            stack.enter_context(comparison.watching(name, model.get_submodule(name), mine))
        expected = run(model, example)
    answer = run(packed, example)
    with layer_by_layer(packed):
        graph_gap = _gap(run(packed, example), answer)
    if not graph_gap <= _ROUNDING:
        raise ProofError(f"the fused graph and its layers one by one are apart by {graph_gap:.1e} of the largest entry")
    gaps = comparison
    return Proof(
        signs=len(gaps.signs), floats=len(gaps.floats), float_gap=max(gaps.floats.values(), default=0.0),
        rounded=len(gaps.rounded), rounded_gap=max(gaps.rounded.values(), default=0.0), graph_gap=graph_gap,
        answer_gap=_gap(expected, answer),
    )  # fmt: skip


class _Comparison:
    """Every layer of one model beside that of the other, on the inputs of the first."""

    def __init__(self) -> None:
        self.signs: dict[str, float] = {}
        self.floats: dict[str, float] = {}
        self.rounded: dict[str, float] = {}

    @contextmanager
    def watching(self, name: str, right: nn.Module, mine: nn.Module) -> Iterator[None]:
        """While this lasts, compare what `mine` makes of every input of `right`, if it is another kind of layer."""
        is_other = isinstance(right, BinaryLayer) or type(right).__module__ != type(mine).__module__
        if not is_other or isinstance(mine, nn.MultiheadAttention | nn.TransformerEncoderLayer):
            yield
            return
        handle = right.register_forward_hook(lambda *call: self._compare(name, mine, *call), with_kwargs=True)
        try:
            yield
        finally:
            handle.remove()

    def _compare(self, name: str, mine: nn.Module, _: nn.Module, args: Any, kwargs: Any, expected: Any) -> None:
        if not args:  # a raw parameter, which has no product of its own
            return
        gap = _gap(expected, mine(*args, **kwargs))
        if not isinstance(mine, PackedLayer):
            kind = self.rounded
        elif mine.has_binary_input:
            kind = self.signs
            if gap != 0:
                raise ProofError(f"layer {name!r} multiplies signs and is not equal to the bit: {gap:.1e} apart")
        else:
            kind = self.floats
            if not gap <= _ROUNDING and getattr(mine, "inputs", "exact") == "exact":
                raise ProofError(f"layer {name!r} is apart by {gap:.1e} of its largest entry, which is no rounding")
        kind[name] = max(gap, kind.get(name, 0.0))


def _gap(expected: Any, answer: Any) -> float:
    """The largest |Δ| of all tensors by the largest entry; infinite for other shapes, and where only one is NaN."""
    rights, mine = tensors_in(expected), tensors_in(answer)
    if [t.shape for t in rights] != [t.shape for t in mine]:
        return float("inf")
    return max((_gap_of(a, b) for a, b in zip(rights, mine, strict=True)), default=0.0)


def _gap_of(expected: Tensor, answer: Tensor) -> float:
    right, mine = expected.double(), answer.double()
    same = (right == mine) | (right.isnan() & mine.isnan())
    if bool(same.all()):
        return 0.0
    gap = torch.where(same, 0.0, (right - mine).abs()).max()
    largest = right.abs().nan_to_num(0.0).max()
    return float((gap / largest).nan_to_num(float("inf")))


def _as_words(gap: float) -> str:
    return "equal to the bit" if gap == 0 else f"apart by {gap:.1e} of the largest entry"
