"""Compare each operation of a fused graph with its layers on equal inputs, so that no sign amplifies rounding."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor, fx, nn
from torch.fx import Node
from torch.fx.node import map_arg

from proxconnect.deploy.fusion.closeness import ROUNDING, bits_of, gap, outside, turned
from proxconnect.deploy.fusion.images import in_format_of, in_parts, part_of, with_channels_last, with_planes
from proxconnect.deploy.fusion.operation import SHIFTED, Operation, Rewriting, origins
from proxconnect.kernels.epilogue import Bits

_COPYING: tuple[Any, ...] = (with_channels_last, with_planes, in_format_of, "clone", "reshape")


@dataclass(frozen=True)
class Segment:
    """A record of the comparison of one operation of a fused graph with the layers that it replaces."""

    layers: tuple[str, ...]
    """The names of the modules and functions that the operation replaces."""
    gap: float
    """The largest error of an output entry, relative to the largest entry of the expected output, or of its channel if
    `Operation.has_channels`. For bits, the largest expected float whose sign differs."""
    allowed: float
    """The largest gap that is no fault."""
    is_fused: bool = False
    """True for a fused operation, False for one of torch's whose inputs were rewritten."""
    is_fast: bool = False
    """True if kernels replace float operations of torch (`Operation.is_fast`)."""
    error: str = ""

    @property
    def fault(self) -> str:
        """The message about an error or a gap above `allowed`, or ""."""
        what = f"the fused operation of the layers {', '.join(self.layers)}"
        if self.error:
            return f"{what} raises {self.error}"
        if self.gap <= self.allowed:
            return ""
        return f"{what} and these one by one are {self.gap:.1e} of the largest entry apart"


@dataclass(frozen=True)
class Examination:
    """A record of one call's comparisons: the traced graph with the module's forward, and operations with layers."""

    answer: Any
    """The output of the module's forward."""
    trace_gap: float = 0.0
    """The error of the traced graph, run with the original layers, relative to the largest entry of `answer`."""
    segments: tuple[Segment, ...] = ()
    """The comparisons of operations; empty if the trace gap is above rounding."""
    error: str = ""

    def fault(self, difference: str) -> str:
        """Return why the graph's output differs from the layers'; empty if only amplified rounding explains it.

        It is `difference`, a message about the output, if the traced graph differs too. Otherwise it is the error
        of the traced graph, or the first fault of an operation.
        """
        if not self.trace_gap <= ROUNDING:
            return difference
        return self.error or next((segment.fault for segment in self.segments if segment.fault), "")


class Segments:
    """A comparer of the operations of a rewritten graph with the traced nodes that they replace."""

    def __init__(self, module: nn.Module, work: Rewriting, *, is_apart: bool) -> None:
        self.module, self.work, self._is_apart = module, work, is_apart
        self._traced = {node.name: node for node in work.traced.nodes}

    def examined(self, inputs: tuple[Any, ...], laid_out: tuple[Any, ...], answer: Any) -> Examination:
        """Compare the traced graph, and if it agrees the rewritten operations, with the layers.

        `answer` is the module's output for `laid_out`, which are the inputs in the memory format of the graph.
        """
        recording = _Recording(self.module, graph=self.work.traced)
        try:
            trace_gap = gap(answer, recording.run(*laid_out))
        except Exception as error:  # whatever its nodes raise
            return Examination(answer, error=f"it raises {type(error).__name__}: {error}")
        segments = tuple(self._compared(inputs, recording.values)) if trace_gap <= ROUNDING else ()
        return Examination(answer, trace_gap, segments)

    def _compared(self, inputs: tuple[Any, ...], values: dict[str, Any]) -> Iterator[Segment]:
        """Yield the comparisons of all rewritten operations; if a large batch runs in parts, of all operations."""
        for name, source in self.work.identities.items():
            yield Segment(self._layers((name,)), gap(values[source], values[name]), 0.0)
        parts = [slice(None)]
        if self._is_apart and len(inputs[0]) > (size := part_of(inputs[0])):
            parts = [slice(first, first + size) for first in range(0, len(inputs[0]), size)]
            yield Segment(("the parts of the batch",), gap(inputs[0], in_parts(lambda part: part, *inputs)), 0.0)
        replays = [_Replay(self.module, self.work, inputs, values, part) for part in parts]
        for node in self.work.graph.nodes:
            if node.op != "placeholder" and (len(parts) > 1 or self._is_changed(node)):
                yield self._segment(node, replays)

    def _segment(self, node: Node, replays: list["_Replay"]) -> Segment:
        largest, error = 0.0, ""
        try:
            largest = max(replay.gap_of(node) for replay in replays)
        except Exception as raised:  # whatever the operation raises
            error = f"{type(raised).__name__}: {raised}"
        is_fused, is_fast = isinstance(node.target, Operation), getattr(node.target, "is_fast", False)
        return Segment(self._layers(origins(node)), largest, _allowed(node), is_fused, is_fast, error)

    def _is_changed(self, node: Node) -> bool:
        """Return True if a node differs from its traced node in its operation or in the values that it reads."""
        *others, name = origins(node)
        twin = self._traced.get(name)
        if others or twin is None or (twin.op, twin.target) != (node.op, node.target):
            return True
        mine = map_arg((node.args, node.kwargs), lambda value: self._traced.get(self._source(origins(value)[-1])))
        return bool(mine != map_arg((twin.args, twin.kwargs), lambda value: self._traced[self._source(value.name)]))

    def _source(self, name: str) -> str:
        """Return the name of the traced node that computes a value, skipping removed nodes that return their input."""
        while name in self.work.identities:
            name = self.work.identities[name]
        return name

    def _layers(self, names: tuple[str, ...]) -> tuple[str, ...]:
        """Return the names of the modules that traced nodes call, or the names of the nodes that call functions."""
        nodes = {name: self._traced.get(name) for name in names}
        return tuple(str(n.target) if n is not None and n.op == "call_module" else name for name, n in nodes.items())


class _Recording(fx.Interpreter):
    """Runs a traced graph and keeps a copy of the value of each node by name, before other nodes write into it."""

    def __init__(self, module: nn.Module, graph: fx.Graph) -> None:
        super().__init__(module, graph=graph)
        self.values: dict[str, Any] = {}

    def run_node(self, n: Node) -> Any:
        """Run a node and return its value; record a copy of the value, and the input after the input shift, if any."""
        layer: Any = self.submodules[str(n.target)] if n.op == "call_module" else None
        if getattr(layer, "input_shift", None) is not None and len(n.args) == 1:
            (input,), _ = self.fetch_args_kwargs_from_env(n)
            self.values[n.name + SHIFTED] = layer.input_shift(input)
        value = super().run_node(n)
        self.values[n.name] = _own(value)
        return value


class _Replay:
    """Runs single operations of a rewritten graph on the recorded values of their inputs, for one part of a batch."""

    def __init__(
        self, module: nn.Module, work: Rewriting, inputs: tuple[Any, ...], values: dict[str, Any], part: slice
    ) -> None:
        self._interpreter = fx.Interpreter(module, graph=work.graph)
        self._has_images, self._values, self._part = work.has_images, values, part
        placeholders = [node for node in work.graph.nodes if node.op == "placeholder"]
        self._inputs = dict(zip(placeholders, inputs, strict=True))
        self._makers_of_bits: set[Node] = set()

    def gap_of(self, node: Node) -> float:
        """Run an operation; return the largest relative error of its output, or of an input that it must not change."""
        given, args, kwargs = self._arguments(node)
        answer = getattr(self._interpreter, node.op)(node.target, args, kwargs)
        expected = self._recorded(node)
        if isinstance(answer, Bits):
            self._makers_of_bits.add(node)
        elif not isinstance(answer, Tensor) or not isinstance(expected, Tensor):
            return gap(expected, answer)
        found = _distance(node, answer, [expected])
        if not found <= _allowed(node) and isinstance(node.target, Operation) and node.target.has_channels:
            bounds = node.target.bounds(*self._arguments(node)[1])  # of sums rounded up and down
            if outside(expected, bounds) <= ROUNDING:  # else it stands for other layers
                found = min(found, _distance(node, answer, [expected, *bounds]))
        written = [gap(self._given(value, node), given[value]) for value in given if len(value.users) > 1]
        return max(found, *written, 0.0)

    def _arguments(self, node: Node) -> tuple[dict[Node, Any], tuple[Any, ...], dict[str, Any]]:
        """Return the recorded inputs of an operation: by node, and as its positional and keyword arguments."""
        given = {value: self._given(value, node) for value in node.all_input_nodes}
        args, kwargs = map_arg((node.args, node.kwargs), given.__getitem__)
        return given, args, kwargs

    def _given(self, value: Node, reader: Node) -> Any:
        """Return a copy of a recorded value as `reader` gets it: as bits or floats, in the layout of the graph."""
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
    """Return the largest error of a node's output, relative to the largest expected entry, that is no fault."""
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
    """Return a copy of a tensor; anything else unchanged."""
    return value.clone() if isinstance(value, Tensor) else value


def _with_channels_behind(maker: Node, floats: Tensor) -> Tensor:
    """Return the recorded output of an operation that gives bits, with the channels in the last dimension."""
    return floats.movedim(1, -1) if getattr(maker.target, "are_images", False) else floats
