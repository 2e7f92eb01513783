"""Prove on an example that a packed model computes the same as the hard binary model."""

from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from torch import nn
from torch.utils._pytree import tree_map

from proxconnect._support.example import run, tensors_in
from proxconnect.deploy.fusion.closeness import ROUNDING, gap
from proxconnect.deploy.fusion.graph_modules import graph_forward, layer_by_layer
from proxconnect.deploy.fusion.images import with_channels_last
from proxconnect.deploy.fusion.segments import Examination, Segment
from proxconnect.deploy.packed import PackedLayer
from proxconnect.deploy.packed.half_vectors import TOLERANCE, vectors_of
from proxconnect.deploy.packed.layers.base import CompactLayer
from proxconnect.deploy.packed.layers.int8 import Int8Layer, error
from proxconnect.deploy.packed.layers.one_bit import KernelLayer
from proxconnect.layers.modes import hard

_HALF = 2.0**-9
"""The largest error from scales and biases in 16 bits, relative to the largest entry of an output."""


class ProofError(RuntimeError):
    """The error for a packed model that differs from the hard binary model; the message says where."""


@dataclass(frozen=True)
class Proof:
    """The result of `prove`. A gap is the largest error relative to the largest expected entry; 0 means equal.

    For most operations, "largest" is meant per channel. Each number of layers or operations comes with their largest
    gap. They are compared one by one on equal inputs: these gaps are the proof. The gaps of whole outputs are for
    information. They can be large if a sign or a sort follows float layers, because rounding may turn it.
    """

    signs: int
    """The number of binary layers with binary inputs. Their gap is 0 unless scales and biases are in 16 bits."""
    signs_gap: float
    floats: int
    """The number of binary layers with float inputs. Sums in another order, or inputs in 8 bits, make their gap."""
    floats_gap: float
    rounded: int
    """The number of float layers that became 8-bit layers. Each is within the bound of its class."""
    rounded_gap: float
    operations: int
    """The number of fused operations, without those of `fast`."""
    operations_gap: float
    graph_gap: float
    """The gap of the whole output: fused graphs compared with the packed layers."""
    answer_gap: float
    """The gap of the whole output: the packed model compared with the hard model."""
    fast: int = 0
    """The number of float convolutions, layer norms and attentions that kernels compute instead of torch."""
    fast_gap: float = 0.0

    def __str__(self) -> str:
        proved = [
            (self.signs, "binary layers with binary inputs", self.signs_gap),
            (self.floats, "binary layers with float inputs", self.floats_gap),
            (self.rounded, "float layers in int8", self.rounded_gap),
            (self.operations, "fused operations, compared with the layers they replace", self.operations_gap),
            (self.fast, "float operations by kernels, compared with torch's", self.fast_gap),
        ]
        lines = [f"{count} {what}: {_as_words(gap)}" for count, what, gap in proved if count]
        if self.operations + self.fast:
            lines.append(f"whole output, fused compared with layer by layer: {_as_figure(self.graph_gap)}")
        lines.append(f"whole output, packed compared with the hard network: {_as_figure(self.answer_gap)}")
        return "\n".join(["on the example:", *(f"- {line}" for line in lines)])


def prove(model: nn.Module, packed: nn.Module, example: Any) -> Proof:
    """Compare `packed` with `model`, from which it was packed, on an example, and return the gaps.

    Packed and 8-bit layers run on the inputs that their originals get in the hard model, and must return the same
    outputs up to rounding. Other layers must have the parameters and saved buffers of `model`. Fused operations run on
    the inputs of the layers that they replace, and must return their outputs up to rounding. Whole outputs are only
    reported, because signs and sorts amplify rounding.

    The example is a tensor, a tuple of positional arguments or a mapping of keyword arguments.

    Raises:
        ProofError: if a layer or an operation differs by more than rounding; the message names it.
        ValueError: if a tensor of the example is empty.
    """
    if any(tensor.numel() == 0 for tensor in tensors_in(example)):
        raise ValueError("a tensor of the example is empty, which proves nothing: give at least one input")
    has_halves = vectors_of(packed) == "float16"
    if fault := _remainder_fault(model, packed, has_halves=has_halves):
        raise ProofError(fault)
    gaps = _Comparison(has_halves)
    with hard(model), ExitStack() as stack:
        for name, mine in packed.named_modules():
            if isinstance(mine, PackedLayer | Int8Layer):
                compare = gaps.compare_rounded if isinstance(mine, Int8Layer) else gaps.compare_packed
                hook = partial(compare, name, mine)
                stack.enter_context(model.get_submodule(name).register_forward_hook(hook, with_kwargs=True))
        expected = run(model, _laid_out(packed, example))
    if gaps.fault:
        raise ProofError(gaps.fault)
    graphs = {name: graph for name, module in packed.named_modules() if (graph := graph_forward(module)) is not None}
    with ExitStack() as stack:
        examinations = {name: stack.enter_context(graph.examined()) for name, graph in graphs.items()}
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


def _proved(name: str, examinations: list[Examination]) -> list[Segment]:
    """Return the comparison with the largest gap for each operation of a graph; ProofError if one has a fault."""
    worst: dict[object, Segment] = {}
    for segment in (segment for examination in examinations for segment in examination.segments):
        if segment.fault:
            raise ProofError(f"in the graph of {name or 'the model'}, {segment.fault}")
        which = segment.layers, segment.is_fused
        worst[which] = max(segment, worst.get(which, segment), key=lambda one: one.gap)
    return [*worst.values()]


def _laid_out(packed: nn.Module, example: Any) -> Any:
    """Return the example in the memory format of the packed model's graph, unless its layers cannot run on that."""
    if (fused := graph_forward(packed)) is not None and fused.work.has_images:
        with suppress(RuntimeError), layer_by_layer(packed):
            with_last = tree_map(with_channels_last, example)
            run(packed, with_last)
            return with_last
    return example


_WITHIN_BOUNDS = " (each layer is within its own bound, but signs near 0 may differ: compare accuracies)"


def _as_words(gap: float) -> str:
    return "equal to the bit" if gap == 0 else f"differ by at most {gap:.1e} of the largest entry"


def _as_figure(gap: float) -> str:
    return _as_words(gap) + (_WITHIN_BOUNDS if gap > ROUNDING else "")


@dataclass
class _Comparison:
    """The largest error of each packed layer by name, relative to the largest entry of the original's output."""

    has_halves: bool
    """True if scales and biases were rounded to 16 bits."""
    signs: dict[str, float] = field(default_factory=dict)
    floats: dict[str, float] = field(default_factory=dict)
    rounded: dict[str, float] = field(default_factory=dict)
    fault: str = ""
    """The message about the first layer whose error exceeds rounding; empty if there is none."""

    def compare_packed(self, name: str, mine: Any, _: nn.Module, args: Any, kwargs: Any, expected: Any) -> None:
        """Record the error of a packed layer on the inputs, if any, of its original, which answered `expected`."""
        if not args and not kwargs:  # a raw parameter, which has no product of its own
            return
        found = gap(expected, mine(*args, **kwargs))
        allowed = _HALF if self.has_halves else 0.0 if mine.has_binary_input else ROUNDING
        if isinstance(mine, KernelLayer) and not mine.has_binary_input and mine.inputs == "int8":
            # As `pack` states the bound of inputs in 8 bits, relative to the largest output.
            sizes = (args or tuple(kwargs.values()), expected)
            most_input, most_output = (max(float(t.abs().max()) for t in tensors_in(v)) for v in sizes)
            entries = mine.spec.entries // mine.output_channels(mine.spec.shape)
            bound = float(mine.scale.abs().max()) * entries * most_input / 254
            allowed += bound / most_output if most_output else float("inf")
        if not found <= allowed:
            self.fault = self.fault or f"layer {name!r} and its binary one are {found:.1e} of the largest entry apart"
        gaps = self.signs if mine.has_binary_input else self.floats
        gaps[name] = max(found, gaps.get(name, 0.0))

    def compare_rounded(self, name: str, mine: Any, right: Any, args: Any, kwargs: Any, expected: Any) -> None:
        """Record an 8-bit layer's error on an input of `right`, unless `expected` is all 0 or has a NaN or ∞."""
        input = args[0] if args else next(iter(kwargs.values()))
        if not bool(expected.any()) or not bool(expected.isfinite().all()):
            return
        found, bound = error(mine, right, input)
        if found > bound + _HALF:
            off = f"off by {found:.1e} of the largest entry, not within {bound:.1e}"
            self.fault = self.fault or f"layer {name!r} in 8 bits is {off}"
        self.rounded[name] = max(found, self.rounded.get(name, 0.0))


def _remainder_fault(model: nn.Module, packed: nn.Module, *, has_halves: bool) -> str:
    """Return a message about a parameter or saved buffer of the remainder that differs; empty if none does."""
    for name, module in packed.named_modules():
        if isinstance(module, CompactLayer):
            continue
        right = model.get_submodule(name)
        for key, tensor in (*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)):
            twin = right._parameters.get(key, right._buffers.get(key))
            if key in module._non_persistent_buffers_set or twin is None:
                continue
            if not gap(twin, tensor) <= (TOLERANCE if has_halves else 0.0):
                return f"{key} of {name or 'the model'} is not what it is in the model that was packed"
    return ""
