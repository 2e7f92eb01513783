"""Each operation of a fused graph beside the layers that it stands for, on the inputs that these get.

So no rounding is amplified: a sign, a sort or a threshold sees the same numbers in both.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor, fx, nn
from torch.fx import Node
from torch.fx.node import map_arg

from proxconnect.deploy.fusion.attention import FusedAttention, FusedAttentionOfRows
from proxconnect.deploy.fusion.batches import in_parts, part_of
from proxconnect.deploy.fusion.closeness import ROUNDING, bits_of, gap, outside, turned
from proxconnect.deploy.fusion.finishes import FusedNorm, FusedNormPool
from proxconnect.deploy.fusion.float_conv import FusedFloatConv
from proxconnect.deploy.fusion.image_conv import FusedImageConv
from proxconnect.deploy.fusion.int8 import FusedInt8Conv, FusedInt8Rows
from proxconnect.deploy.fusion.layout import in_format_of, with_channels_last, with_planes
from proxconnect.deploy.fusion.origins import layer_of, origins
from proxconnect.deploy.fusion.overwriting import OverwritingGelu
from proxconnect.deploy.fusion.products import FusedConv, FusedFloatRows, FusedProduct
from proxconnect.deploy.fusion.recording import Recording
from proxconnect.deploy.fusion.rewrite import Rewriting
from proxconnect.deploy.packed.layers.base import CompactLayer
from proxconnect.kernels.epilogue import Bits

_OF_IMAGES = (FusedConv, FusedImageConv, FusedNorm, FusedNormPool)
_FAST = (FusedFloatConv, FusedAttention, FusedAttentionOfRows)
_FUSED = (*_OF_IMAGES, *_FAST, FusedProduct, FusedInt8Rows, OverwritingGelu)
_COPYING: tuple[Any, ...] = (with_channels_last, with_planes, in_format_of, "clone", "reshape")
_IN_FLOATS = 2.0**-20
"""By how much of itself a sum may change with how what follows it rounds."""
_AFTER_SUMS = 2.0**-16
"""By how much of the largest entry of a channel norms and curves may change what the same sums become."""


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
    """What it raises, where its layers do not."""

    @property
    def fault(self) -> str:
        """What is wrong with it; empty where nothing is."""
        what = f"the fused operation of the layers {', '.join(self.layers)}"
        if self.error:
            return f"{what} raises {self.error}"
        if self.gap <= self.allowed:
            return ""
        return f"{what} and these one by one are {self.gap:.1e} of the largest entry apart"


class Segments:
    """The operations of the graph that a module was rewritten to, and the traced nodes that each stands for."""

    def __init__(self, module: nn.Module, work: Rewriting, *, is_apart: bool) -> None:
        self.module, self.work, self._is_apart = module, work, is_apart
        self._traced = {node.name: node for node in work.traced.nodes}

    def recorded(self, inputs: tuple[Any, ...]) -> Recording:
        """The traced graph after a run on these inputs."""
        names = {name for node in self.work.graph.nodes for name in self._needed(node, inputs)}
        recording = Recording(self.module, self.work.traced, {*names, *self.work.nothing, *self.work.nothing.values()})
        recording.run(*inputs)
        return recording

    def compared(self, inputs: tuple[Any, ...], values: dict[str, Any]) -> Iterator[Segment]:
        """Every operation that rewriting changed, on inputs of the module and the recorded values of traced nodes.

        Where a large batch runs in parts, every operation on each part.
        """
        for name, source in self.work.nothing.items():
            yield Segment(self._layers((name,)), gap(values[source], values[name]), 0.0)
        parts = self._parts(inputs)
        if len(parts) > 1:
            yield Segment(("the parts of the batch",), gap(inputs[0], in_parts(lambda part: part, *inputs)), 0.0)
        besides = [_Beside(self.module, self.work, inputs, values, part) for part in parts]
        for node in self.work.graph.nodes:
            if self._is_compared(node, inputs):
                yield self._segment(node, besides)

    def _segment(self, node: Node, besides: list["_Beside"]) -> Segment:
        largest, error = 0.0, ""
        try:
            largest = max(beside.gap_of(node) for beside in besides)
        except Exception as raised:  # whatever the operation raises
            error = f"{type(raised).__name__}: {raised}"
        is_fused, is_fast = (isinstance(node.target, types) for types in (_FUSED, _FAST))
        return Segment(self._layers(origins(node)), largest, allowed(node), is_fused, is_fast, error)

    def _parts(self, inputs: tuple[Any, ...]) -> list[slice]:
        """What of a batch runs at a time."""
        if not self._is_apart or len(inputs[0]) <= (size := part_of(inputs[0])):
            return [slice(None)]
        return [slice(first, first + size) for first in range(0, len(inputs[0]), size)]

    def _is_compared(self, node: Node, inputs: tuple[Any, ...]) -> bool:
        return node.op != "placeholder" and (len(self._parts(inputs)) > 1 or self._is_changed(node))

    def _needed(self, node: Node, inputs: tuple[Any, ...]) -> set[str]:
        """The traced nodes whose values comparing a node takes."""
        if not self._is_compared(node, inputs):
            return set()
        names = {*origins(node), *(origins(value)[-1] for value in node.all_input_nodes)}
        replaced = [self._traced[name] for name in origins(node) if name in self._traced]
        return names | {value.name for one in replaced for value in one.all_input_nodes}

    def _is_changed(self, node: Node) -> bool:
        """Whether it is another operation than the traced node that it stands for, or one on other values."""
        *others, name = origins(node)
        twin = self._traced.get(name)
        if others or twin is None or (twin.op, twin.target) != (node.op, node.target):
            return True
        mine = map_arg((node.args, node.kwargs), lambda value: self._traced.get(self._source(origins(value)[-1])))
        return bool(mine != map_arg((twin.args, twin.kwargs), lambda value: self._traced[self._source(value.name)]))

    def _source(self, name: str) -> str:
        """The traced node that gives a value, past those that give back their input."""
        while name in self.work.nothing:
            name = self.work.nothing[name]
        return name

    def _layers(self, names: tuple[str, ...]) -> tuple[str, ...]:
        """What traced nodes call: modules by their names, and functions by those of the nodes."""
        nodes = [self._traced.get(name) for name in names]
        return tuple(
            name if node is None or node.op != "call_module" else str(node.target)
            for name, node in zip(names, nodes, strict=True)
        )


class _Beside:
    """Runs operations on the recorded values of what they read, for a part of a batch."""

    def __init__(
        self, module: nn.Module, work: Rewriting, inputs: tuple[Any, ...], values: dict[str, Any], part: slice
    ) -> None:
        self._interpreter = fx.Interpreter(module, graph=work.graph)
        self._has_images, self._values, self._part = work.has_images, values, part
        placeholders = [node for node in work.graph.nodes if node.op == "placeholder"]
        self._inputs = dict(zip(placeholders, inputs, strict=True))
        self._traced = {node.name: node for node in work.traced.nodes}
        self._makers_of_bits: set[Node] = set()

    def gap_of(self, node: Node) -> float:
        """How far the answer of an operation lies from the recorded one, or what others read from what it was."""
        given = {value: self._given(value, node) for value in node.all_input_nodes}
        args, kwargs = map_arg((node.args, node.kwargs), given.__getitem__)
        answer = getattr(self._interpreter, node.op)(node.target, args, kwargs)
        expected = self._recorded(origins(node)[-1])
        if isinstance(answer, Bits):
            self._makers_of_bits.add(node)
        elif not isinstance(answer, Tensor) or not isinstance(expected, Tensor):
            return gap(expected, answer)
        found = _distance(node, answer, [expected])
        if not found <= allowed(node) and hasattr(node.target, "links"):
            found = _distance(node, answer, self._bounds(node, expected))
        written = [gap(self._given(value, node), given[value]) for value in given if len(value.users) > 1]
        return max(found, *written, 0.0)

    def _given(self, value: Node, reader: Node) -> Any:
        """What a value is to the operation that reads it: as the graph lays it out, and its own to write into."""
        is_input = value in self._inputs
        given = self._of_part(self._inputs[value]) if is_input else self._recorded(origins(value)[-1])
        if value in self._makers_of_bits:
            return bits_of(_with_channels_behind(value, given))
        is_image = self._has_images and not is_input and isinstance(reader.target, _OF_IMAGES)
        return _own(with_channels_last(given) if is_image else given)

    def _recorded(self, name: str) -> Any:
        return self._of_part(self._values[name])

    def _of_part(self, value: Any) -> Any:
        return value[self._part] if isinstance(value, Tensor) and self._part != slice(None) else value

    def _bounds(self, node: Node, expected: Tensor) -> list[Tensor]:
        """The recorded answer, and what the traced nodes make of sums that are rounded otherwise."""
        names = origins(node)
        first = self._traced[names[0]].args[0]
        assert isinstance(first, Node)
        input = self._recorded(first.name)
        heads = [place for place, name in enumerate(names) if self._is_layer(name)]
        head, behind = (names[heads[0]], names[heads[0] + 1 :]) if heads else (first.name, names)
        sums = self._recorded(head)
        sums_floats = isinstance(node.target, FusedFloatConv | FusedFloatRows)
        change = node.target.rounding(input) if sums_floats else sums.abs() * _IN_FLOATS  # type: ignore[union-attr]
        return [expected, *(self._follow(head, sums + sign * change, behind) for sign in (-1, 1))]

    def _is_layer(self, name: str) -> bool:
        node = self._traced.get(name)
        if node is None or node.op != "call_module":
            return False
        return isinstance(self._interpreter.submodules[str(node.target)], CompactLayer | nn.Conv2d)

    def _follow(self, before: str, value: Tensor, names: tuple[str, ...]) -> Tensor:
        """What traced nodes that follow each other make of another value of the node before them."""
        for name in names:
            if (node := self._traced.get(name)) is None:
                layer: Any = self._interpreter.submodules[str(self._traced[layer_of(name)].target)]
                value = layer.input_shift(value)
                continue
            given = {n: value if n.name == before else _own(self._recorded(n.name)) for n in node.all_input_nodes}
            args, kwargs = map_arg((node.args, node.kwargs), given.__getitem__)
            value = getattr(self._interpreter, node.op)(node.target, args, kwargs)
            before = name
        return value


def allowed(node: Node) -> float:
    """By how much an operation may be off: by nothing if it sums integers and no norm or curve follows."""
    operation: Any = node.target
    if operation in _COPYING:
        return 0.0
    if not hasattr(operation, "links") or isinstance(operation, FusedFloatConv):
        return ROUNDING
    sums_integers = isinstance(operation, FusedInt8Conv | FusedInt8Rows) or (
        isinstance(operation, FusedProduct) and operation.layer.has_binary_input
    )
    is_exact = sums_integers and all(link.is_exact for link in operation.links)
    return 0.0 if is_exact and getattr(operation, "mean", None) is None else _AFTER_SUMS


def _distance(node: Node, answer: Tensor | Bits, bounds: list[Tensor]) -> float:
    if isinstance(answer, Bits):
        return turned(answer, [_with_channels_behind(node, bound) for bound in bounds])
    if not hasattr(node.target, "links"):
        return outside(answer, bounds)
    return outside(answer, bounds, 1 if isinstance(node.target, _OF_IMAGES) else -1)


def _own(value: Any) -> Any:
    """A copy of a tensor, to write into."""
    return value.clone() if isinstance(value, Tensor) else value


def _with_channels_behind(maker: Node, floats: Tensor) -> Tensor:
    """What was recorded of an operation that makes bits, its channels in the last dimension."""
    return floats.movedim(1, -1) if isinstance(maker.target, FusedConv) else floats
