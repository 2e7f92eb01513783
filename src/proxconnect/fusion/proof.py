"""Whether a packed model answers as the hard binary model does, shown on an example."""

from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from torch import fx, nn
from torch.utils._pytree import tree_map

from proxconnect.example import run, tensors_in
from proxconnect.fusion.attachment import fused_forward, graphs_run_by, layer_by_layer
from proxconnect.fusion.comparison import ROUNDING, Comparison, ProofError, gap
from proxconnect.fusion.float_conv import FusedFloatConv
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
    """Their largest gap, which is within the bound that each class of 8-bit layers states."""
    graph_gap: float
    """That of the fused graph to the same layers one after another."""
    answer_gap: float
    """That of the whole packed model to the whole hard one."""
    fast: int = 0
    """Float convolutions that kernels compute."""
    fast_gap: float = 0.0
    """Their largest gap to torch's, each on the same input; the graph's is with those by torch."""

    def __str__(self) -> str:
        shown = [
            (self.signs, f"{self.signs} binary layers with binary inputs", self.signs_gap),
            (self.floats, f"{self.floats} binary layers with float inputs", self.floats_gap),
            (self.rounded, f"{self.rounded} float layers in int8", self.rounded_gap),
            (self.fast, f"{self.fast} float convolutions by kernels, beside torch's", self.fast_gap),
            (True, "the fused graph, beside its layers one by one", self.graph_gap),
            (True, "the whole answer, beside the hard model's", self.answer_gap),
        ]
        return "\n".join(f"{what}: {_as_words(gap)}" for is_there, what, gap in shown if is_there)


def prove(model: nn.Module, packed: nn.Module, example: Any) -> Proof:
    """Hold `packed` against `model`, whose packed form it is, on an example, as `summary` takes it.

    Every packed layer gets what its binary layer gets in the hard model and must answer the same; the fused graph must
    answer as its layers do one after another, its float convolutions by torch, beside which those of kernels are held
    one by one; and the whole answers are compared. Where floats are rounded in another order before a sign, that sign
    may turn at values near 0, which no equality of layers excludes: the gap of the whole says it. Images have their
    channels last where the graph has, since torch rounds otherwise in C order.

    ProofError where a layer or the graph differs by more than rounding; ValueError for an example without entries.
    """
    if any(tensor.numel() == 0 for tensor in tensors_in(example)):
        raise ValueError("a tensor of the example is empty, which proves nothing: give at least one input")
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
    fast: list[float] = []
    by_torch = answer if not _has_fast_convs(packed) else _with_convs_by_torch(packed, example, fast)
    if not max(fast, default=0.0) <= ROUNDING:
        raise ProofError(f"a float convolution and torch's are {max(fast):.1e} of the largest entry apart")
    with layer_by_layer(packed):
        graph_gap = gap(run(packed, example), by_torch)
    if not graph_gap <= ROUNDING:
        raise ProofError(f"the fused graph and its layers one by one are apart by {graph_gap:.1e} of the largest entry")
    return Proof(
        signs=len(gaps.signs), signs_gap=max(gaps.signs.values(), default=0.0),
        floats=len(gaps.floats), floats_gap=max(gaps.floats.values(), default=0.0),
        rounded=len(gaps.rounded), rounded_gap=max(gaps.rounded.values(), default=0.0),
        graph_gap=graph_gap, answer_gap=gap(expected, answer), fast=len(fast), fast_gap=max(fast, default=0.0),
    )  # fmt: skip


class _Beside(fx.Interpreter):
    """Runs a graph with its float convolutions by torch, and appends how far those of kernels are apart to `gaps`."""

    def __init__(self, graph: fx.GraphModule, gaps: list[float]) -> None:
        super().__init__(graph)
        self.gaps = gaps

    def call_function(self, target: Any, args: Any, kwargs: Any) -> Any:
        """As the graph does, but for those."""
        if not isinstance(target, FusedFloatConv):
            return super().call_function(target, args, kwargs)
        by_torch = target.by_layers(*args, **kwargs)
        self.gaps.append(gap(by_torch, target(*args, **kwargs)))
        return by_torch


def _has_fast_convs(packed: nn.Module) -> bool:
    graphs = (fused_forward(module) for module in packed.modules())
    return any(fused.has_fast_convs for fused in graphs if fused is not None)


def _with_convs_by_torch(packed: nn.Module, example: Any, gaps: list[float]) -> Any:
    """What the graphs answer so, with the gaps of their float convolutions."""
    with graphs_run_by(packed, lambda graph: _Beside(graph, gaps).run):
        return run(packed, example)


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
