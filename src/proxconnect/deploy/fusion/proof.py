"""Whether a packed model computes what the hard binary model does, shown on an example."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from torch import nn
from torch.utils._pytree import tree_map

from proxconnect._support.example import run, tensors_in
from proxconnect.deploy.fusion.closeness import ROUNDING, gap
from proxconnect.deploy.fusion.comparison import Comparison, ProofError, remainder_fault
from proxconnect.deploy.fusion.graph_modules import graph_forward, layer_by_layer
from proxconnect.deploy.fusion.layout import with_channels_last
from proxconnect.deploy.fusion.segments import Examination, Segment
from proxconnect.deploy.packed.half_vectors import vectors_of
from proxconnect.layers.modes import hard


@dataclass(frozen=True)
class Proof:
    """What an example showed. A gap is the largest |Δ| by the largest entry; 0 means equal to the bit.

    Layers and operations are compared one by one, each on equal inputs: these gaps prove. The two of whole answers are
    figures: they are small unless a sign, a sort or another threshold lies behind float layers, where rounding may turn
    a value that is near it.
    """

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
    """Their largest gap, which is within the bound that each class of 8-bit layers states."""
    operations: int
    """Operations of fused graphs that replaced layers."""
    operations_gap: float
    """Their largest gap, which is 0 for sums of signs unless torch rounds a norm or a curve behind them otherwise."""
    graph_gap: float
    """The whole answer by fused graphs, beside that by the layers: a figure."""
    answer_gap: float
    """The whole packed model's answer, beside the whole hard one's: a figure."""
    fast: int = 0
    """Float convolutions and attentions that kernels compute."""
    fast_gap: float = 0.0
    """Their largest gap to torch's."""

    def __str__(self) -> str:
        proved = [
            (self.signs, "binary layers with binary inputs", self.signs_gap),
            (self.floats, "binary layers with float inputs", self.floats_gap),
            (self.rounded, "float layers in int8", self.rounded_gap),
            (self.operations, "fused operations, each beside its layers", self.operations_gap),
            (self.fast, "float operations by kernels, each beside torch's", self.fast_gap),
        ]
        lines = [f"{count} {what}: {_as_words(gap)}" for count, what, gap in proved if count]
        if self.operations + self.fast:
            lines.append(f"the whole answer by fused graphs, beside that by layers: {_as_figure(self.graph_gap)}")
        return "\n".join([*lines, f"the whole answer, beside the hard model's: {_as_figure(self.answer_gap)}"])


def prove(model: nn.Module, packed: nn.Module, example: Any) -> Proof:
    """Hold `packed` against `model`, whose packed form it is, on an example, as `summary` takes it.

    Every packed layer gets what its binary layer gets in the hard model and must answer the same. All other layers must
    hold the model's numbers. Every operation of a fused graph gets what the layers that it replaced get and must answer
    as they do. So no rounding is amplified: if floats are rounded in another order before a sign or a sort, a value
    near the threshold may turn, which changes the answer and is no fault. How far the whole answers are apart is only
    reported. Images have their channels last in the model if the graph has them so.

    Raises:
        ProofError: if a layer or an operation differs by more than rounding; the message names it.
        ValueError: for an example without entries.
    """
    if any(tensor.numel() == 0 for tensor in tensors_in(example)):
        raise ValueError("a tensor of the example is empty, which proves nothing: give at least one input")
    has_halves = vectors_of(packed) == "float16"
    if fault := remainder_fault(model, packed, has_halves=has_halves):
        raise ProofError(fault)
    gaps = Comparison(has_halves)
    with hard(model), ExitStack() as stack:
        for name, mine in packed.named_modules():
            stack.enter_context(gaps.watching(name, model.get_submodule(name), mine))
        expected = run(model, _laid_out(packed, example))
    if gaps.fault:
        raise ProofError(gaps.fault)
    with _graphs_examined(packed) as examinations:
        by_layers = run(packed, example)
    segments = [segment for name in examinations for segment in _proved(name, examinations[name])]
    answer = run(packed, example)
    fast = [segment.gap for segment in segments if segment.is_fast]
    ours = [segment.gap for segment in segments if not segment.is_fast]
    return Proof(
        signs=len(gaps.signs), signs_gap=max(gaps.signs.values(), default=0.0),
        floats=len(gaps.floats), floats_gap=max(gaps.floats.values(), default=0.0),
        rounded=len(gaps.rounded), rounded_gap=max(gaps.rounded.values(), default=0.0),
        operations=sum(segment.is_fused and not segment.is_fast for segment in segments),
        operations_gap=max(ours, default=0.0),
        graph_gap=gap(by_layers, answer), answer_gap=gap(expected, answer),
        fast=len(fast), fast_gap=max(fast, default=0.0),
    )  # fmt: skip


@contextmanager
def _graphs_examined(packed: nn.Module) -> Iterator[dict[str, list[Examination]]]:
    """While this lasts, have the graphs of a model examined on what its layers get, by the names of their modules."""
    with ExitStack() as stack:
        graphs = {name: graph_forward(module) for name, module in packed.named_modules()}
        yield {name: stack.enter_context(fused.examined()) for name, fused in graphs.items() if fused is not None}


def _proved(name: str, examinations: list[Examination]) -> list[Segment]:
    """The operations of a graph, each at its worst; ProofError where one is wrong.

    A graph that is not faithful, or that does not take the example, is given up when it runs.
    """
    worst: dict[object, Segment] = {}
    for segment in (segment for examination in examinations for segment in examination.segments):
        if segment.fault:
            raise ProofError(f"in the graph of {name or 'the model'}, {segment.fault}")
        which = segment.layers, segment.is_fused
        worst[which] = max(segment, worst.get(which, segment), key=lambda one: one.gap)
    return [*worst.values()]


def _laid_out(packed: nn.Module, example: Any) -> Any:
    """An example with its images as the graph has them, unless the model's own forward cannot view them so."""
    if (fused := graph_forward(packed)) is None or not fused.work.has_images:
        return example
    with_last = tree_map(with_channels_last, example)
    try:
        with layer_by_layer(packed):
            run(packed, with_last)
    except RuntimeError:
        return example
    return with_last


def _as_words(gap: float) -> str:
    return "equal to the bit" if gap == 0 else f"apart by {gap:.1e} of the largest entry"


def _as_figure(gap: float) -> str:
    return _as_words(gap) + (" (with every layer within its own bound, as above)" if gap > ROUNDING else "")
