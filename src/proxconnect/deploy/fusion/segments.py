"""Each operation of a fused graph beside the layers that it stands for, on the inputs that these get.

So no rounding is amplified: a sign, a sort or a threshold sees the same numbers in both.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor, fx, nn
from torch.fx import Node
from torch.fx.node import map_arg

from proxconnect.deploy.fusion.batches import in_parts, part_of
from proxconnect.deploy.fusion.closeness import ROUNDING, bits_of, gap, outside, turned
from proxconnect.deploy.fusion.layout import in_format_of, with_channels_last, with_planes
from proxconnect.deploy.fusion.operation import Operation
from proxconnect.deploy.fusion.origins import origins, shifted
from proxconnect.deploy.fusion.rewriting import Rewriting
from proxconnect.kernels.epilogue import Bits

_COPYING: tuple[Any, ...] = (with_channels_last, with_planes, in_format_of, "clone", "reshape")


@dataclass(frozen=True)
class Segment:
    """An operation of a fused graph beside its layers."""

    layers: tuple[str, ...]
    """The modules, by their names in the module of the graph, and functions that it stands for."""
    gap: float
    """The largest |Δ| by the largest entry, of its channel in what replaced layers; for signs that turned, the largest
    float whose sign did."""
    allowed: float
    is_fused: bool = False
    """Whether it is one operation in the place of layers, not one of torch's between them."""
    is_fast: bool = False
    """Whether kernels compute floats that torch would."""
    error: str = ""
    """What it raises, if its layers do not."""

    @property
    def fault(self) -> str:
        """What is wrong with it; empty if nothing is."""
        what = f"the fused operation of the layers {', '.join(self.layers)}"
        if self.error:
            return f"{what} raises {self.error}"
        if self.gap <= self.allowed:
            return ""
        return f"{what} and these one by one are {self.gap:.1e} of the largest entry apart"


@dataclass(frozen=True)
class Examination:
    """One call: the traced graph beside the module's own forward, and each operation beside its layers."""

    answer: Any
    """That of the own forward."""
    trace_gap: float = 0.0
    """How far the traced graph's answer, by the same layers, lies from that."""
    segments: tuple[Segment, ...] = ()
    error: str = ""
    """What the traced graph raises; it does not take these inputs then."""

    def fault(self, difference: str) -> str:
        """Return why the graph is wrong, whose answer shows a difference; empty if that is amplified rounding."""
        if not self.trace_gap <= ROUNDING:
            return difference
        return self.error or next((segment.fault for segment in self.segments if segment.fault), "")


class Segments:
    """The operations of the graph that a module was rewritten to, and the traced nodes that each stands for."""

    def __init__(self, module: nn.Module, work: Rewriting, *, is_apart: bool) -> None:
        self.module, self.work, self._is_apart = module, work, is_apart
        self._traced = {node.name: node for node in work.traced.nodes}

    def examined(self, inputs: tuple[Any, ...], laid_out: tuple[Any, ...], answer: Any) -> Examination:
        """Examine the graph on inputs; `answer` is the own forward's, to the inputs laid out as the graph has them."""
        recording = _Recording(self.module, graph=self.work.traced)
        try:
            trace_gap = gap(answer, recording.run(*laid_out))
        except Exception as error:  # whatever its nodes raise
            return Examination(answer, error=f"it raises {type(error).__name__}: {error}")
        segments = tuple(self._compared(inputs, recording.values)) if trace_gap <= ROUNDING else ()
        return Examination(answer, trace_gap, segments)

    def _compared(self, inputs: tuple[Any, ...], values: dict[str, Any]) -> Iterator[Segment]:
        """Compare every operation that rewriting changed, on inputs and the recorded values of traced nodes.

        If a large batch runs in parts, compare every operation on each part.
        """
        for name, source in self.work.nothing.items():
            yield Segment(self._layers((name,)), gap(values[source], values[name]), 0.0)
        parts = self._parts(inputs)
        if len(parts) > 1:
            yield Segment(("the parts of the batch",), gap(inputs[0], in_parts(lambda part: part, *inputs)), 0.0)
        besides = [_Beside(self.module, self.work, inputs, values, part) for part in parts]
        for node in self.work.graph.nodes:
            if node.op != "placeholder" and (len(parts) > 1 or self._is_changed(node)):
                yield self._segment(node, besides)

    def _segment(self, node: Node, besides: list["_Beside"]) -> Segment:
        largest, error = 0.0, ""
        try:
            largest = max(beside.gap_of(node) for beside in besides)
        except Exception as raised:  # whatever the operation raises
            error = f"{type(raised).__name__}: {raised}"
        is_fused, is_fast = isinstance(node.target, Operation), getattr(node.target, "is_fast", False)
        return Segment(self._layers(origins(node)), largest, _allowed(node), is_fused, is_fast, error)

    def _parts(self, inputs: tuple[Any, ...]) -> list[slice]:
        """Return the parts of a batch that run at a time."""
        if not self._is_apart or len(inputs[0]) <= (size := part_of(inputs[0])):
            return [slice(None)]
        return [slice(first, first + size) for first in range(0, len(inputs[0]), size)]

    def _is_changed(self, node: Node) -> bool:
        """Return whether it is another operation than the traced node that it stands for, or one on other values."""
        *others, name = origins(node)
        twin = self._traced.get(name)
        if others or twin is None or (twin.op, twin.target) != (node.op, node.target):
            return True
        mine = map_arg((node.args, node.kwargs), lambda value: self._traced.get(self._source(origins(value)[-1])))
        return bool(mine != map_arg((twin.args, twin.kwargs), lambda value: self._traced[self._source(value.name)]))

    def _source(self, name: str) -> str:
        """Return the traced node that gives a value, past those that give back their input."""
        while name in self.work.nothing:
            name = self.work.nothing[name]
        return name

    def _layers(self, names: tuple[str, ...]) -> tuple[str, ...]:
        """Return what traced nodes call: modules by their names, and functions by those of the nodes."""
        nodes = [self._traced.get(name) for name in names]
        return tuple(
            name if node is None or node.op != "call_module" else str(node.target)
            for name, node in zip(names, nodes, strict=True)
        )


class _Recording(fx.Interpreter):
    """Runs a traced graph and keeps the values of its nodes, by name, as they were before others wrote into them."""

    def __init__(self, module: nn.Module, graph: fx.Graph) -> None:
        super().__init__(module, graph=graph)
        self.values: dict[str, Any] = {}

    def run_node(self, n: Node) -> Any:
        """Run a node, after the shift that its layer has, if any."""
        layer: Any = self.submodules[str(n.target)] if n.op == "call_module" else None
        if getattr(layer, "input_shift", None) is not None:
            self.values[shifted(n.name)] = layer.input_shift(*self.fetch_args_kwargs_from_env(n)[0])
        value = super().run_node(n)
        self.values[n.name] = _own(value)
        return value


class _Beside:
    """Runs operations on the recorded values of what they read, for a part of a batch."""

    def __init__(
        self, module: nn.Module, work: Rewriting, inputs: tuple[Any, ...], values: dict[str, Any], part: slice
    ) -> None:
        self._interpreter = fx.Interpreter(module, graph=work.graph)
        self._has_images, self._values, self._part = work.has_images, values, part
        placeholders = [node for node in work.graph.nodes if node.op == "placeholder"]
        self._inputs = dict(zip(placeholders, inputs, strict=True))
        self._makers_of_bits: set[Node] = set()

    def gap_of(self, node: Node) -> float:
        """Return how far the answer of an operation lies from the recorded one, or an input from what it was."""
        given, args, kwargs = self._arguments(node)
        answer = getattr(self._interpreter, node.op)(node.target, args, kwargs)
        expected = self._recorded(node)
        if isinstance(answer, Bits):
            self._makers_of_bits.add(node)
        elif not isinstance(answer, Tensor) or not isinstance(expected, Tensor):
            return gap(expected, answer)
        found = _distance(node, answer, [expected])
        if not found <= _allowed(node) and isinstance(node.target, Operation) and node.target.has_channels:
            found = min(found, self._beyond_rounding(node, node.target, answer, expected))
        written = [gap(self._given(value, node), given[value]) for value in given if len(value.users) > 1]
        return max(found, *written, 0.0)

    def _beyond_rounding(self, node: Node, operation: Operation, answer: Tensor | Bits, expected: Tensor) -> float:
        """Return how far an answer lies beyond what the layers make of sums that are rounded up and down."""
        _, args, _ = self._arguments(node)
        by_layers, *bounds = operation.bounds(*args)
        if not gap(expected, by_layers) <= ROUNDING:  # it stands for other layers
            return float("inf")
        return _distance(node, answer, [expected, *bounds])

    def _arguments(self, node: Node) -> tuple[dict[Node, Any], tuple[Any, ...], dict[str, Any]]:
        """Return what an operation reads, by node and as arguments."""
        given = {value: self._given(value, node) for value in node.all_input_nodes}
        args, kwargs = map_arg((node.args, node.kwargs), given.__getitem__)
        return given, args, kwargs

    def _given(self, value: Node, reader: Node) -> Any:
        """Return a value as the operation that reads it gets it: as the graph lays it out, and a copy to write into."""
        is_input = value in self._inputs
        given = self._of_part(self._inputs[value]) if is_input else self._recorded(value)
        if value in self._makers_of_bits:
            return bits_of(_with_channels_behind(value, given))
        is_image = self._has_images and not is_input and getattr(reader.target, "are_images", False)
        return _own(with_channels_last(given) if is_image else given)

    def _recorded(self, node: Node) -> Any:
        return self._of_part(self._values[origins(node)[-1]])

    def _of_part(self, value: Any) -> Any:
        return value[self._part] if isinstance(value, Tensor) and self._part != slice(None) else value


def _allowed(node: Node) -> float:
    """Return how far the answer of an operation may be off."""
    if isinstance(node.target, Operation):
        return node.target.tolerance()
    return 0.0 if node.target in _COPYING else ROUNDING


def _distance(node: Node, answer: Tensor | Bits, bounds: list[Tensor]) -> float:
    if isinstance(answer, Bits):
        return turned(answer, [_with_channels_behind(node, bound) for bound in bounds])
    operation = node.target
    if not isinstance(operation, Operation) or not operation.has_channels:
        return outside(answer, bounds)
    return outside(answer, bounds, 1 if operation.are_images else -1)


def _own(value: Any) -> Any:
    """Return a copy of a tensor, to write into."""
    return value.clone() if isinstance(value, Tensor) else value


def _with_channels_behind(maker: Node, floats: Tensor) -> Tensor:
    """Return what was recorded of an operation that makes bits, its channels in the last dimension."""
    return floats.movedim(1, -1) if getattr(maker.target, "are_images", False) else floats
