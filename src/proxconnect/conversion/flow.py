"""The flow of data through layers to outputs, found by watching all operations of one run.

Each tensor has a taint: an int whose bits stand for its sources, namely the raw input (`RAW`), an embedding of it
(`EMBEDDED`), and the calls of the watched layers, one bit each, in order. The results of an operation get the union of
the taints of its arguments.
"""

from collections.abc import Iterable, MutableMapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial, reduce
from operator import or_
from typing import Any

from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakTensorKeyDictionary

from proxconnect._support.example import of_one_sign, run, tensors_in
from proxconnect.conversion.eligibility import WeightLayer

RAW = 1
EMBEDDED = 2
_FIRST_CALL_BIT = 2

_BY_PRODUCTS = ("past_key_values", "cache", "cache_params", "hidden_states", "attentions")
_EMBEDDINGS = ("embedding", "_embedding_bag", "_embedding_bag_forward_only", "embedding_renorm_")


@dataclass
class Call:
    """One call of a layer's forward, or one use of its weight by other code."""

    layer: WeightLayer
    upstream: int
    """The taint of the input: one bit for each of its sources (`RAW`, `EMBEDDED`, earlier calls)."""
    forward: bool
    """True if the layer's own forward made the call."""
    one_sign: bool = False
    """True if all values of the input had the same sign."""


class Flow(TorchDispatchMode):
    """A dispatch mode that notes the calls of watched layers in a run of a model, and its outputs' taints; see `trace`.

    A taint is an int whose bits say what a tensor was computed from: the raw input, an embedding of it, or calls.
    """

    def __init__(self, layers: list[WeightLayer]) -> None:
        super().__init__()
        self.calls: list[Call] = []
        self.outputs: list[int] = []
        self._layers = layers
        self._taints: MutableMapping[Tensor, int] = WeakTensorKeyDictionary()
        # Weights, and tensors computed from weights alone, with a bit for each layer.
        self._weights: MutableMapping[Tensor, int] = WeakTensorKeyDictionary()
        self._written: dict[StorageWeakRef, int] = {}  # taints of in-place writes, which all views share
        self._active: dict[int, int] = {}
        self._entered = False
        for index, layer in enumerate(layers):
            for weight in layer.weights:
                self._weights[weight] = 1 << index

    def edges(self) -> dict[str, str]:
        """Map the names of the edge layers to the reasons why they are edges.

        A layer sees the raw input if one of its calls has the input upstream, but no watched layer and no embedding of
        the input. It makes an output if the output depends on it, and on no watched layer that has it upstream.
        """
        edges = {call.layer.name: "edge: sees the raw input" for call in self.calls if call.upstream == RAW}
        for taint in set(self.outputs):
            bits = ((1 << index, call) for index, call in enumerate(self.calls, _FIRST_CALL_BIT))
            ancestors = [(bit, call) for bit, call in bits if taint & bit]
            upstream = reduce(or_, (call.upstream for _, call in ancestors), 0)
            edges.update({call.layer.name: "edge: makes an output" for bit, call in ancestors if not upstream & bit})
        return edges

    def bypassed(self) -> set[nn.Module]:
        """Return the layers whose weight was used while their own forward never ran."""
        return _modules(self.calls) - _modules(call for call in self.calls if call.forward)

    def of_one_sign(self) -> set[nn.Module]:
        """Return the layers that were called, and whose inputs had one sign only in every call."""
        return _modules(self.calls) - _modules(call for call in self.calls if not call.one_sign)

    def _enter(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        if not self._entered:
            self._entered = True
            for tensor in tensors_in((args, kwargs)):
                self._taints[tensor] = RAW

    def _taint_of(self, tensor: Tensor) -> int:
        """Return the taint of `tensor`, with those of in-place writes to its storage."""
        taint = self._taints.get(tensor, 0)
        if self._written and (storage := _storage(tensor)) is not None:
            taint |= self._written.get(storage, 0)
        return taint

    def _before(self, index: int, layer: nn.Module, args: Any, kwargs: Any) -> None:
        inputs = tensors_in((args, kwargs))
        self._active[index] = self._new_call(index, self._union(inputs), forward=True)
        self.calls[-1].one_sign = of_one_sign(inputs)

    def _after(self, index: int, layer: nn.Module, args: Any, output: Any) -> None:
        bit = self._active.pop(index)
        for tensor in tensors_in(output):
            self._taints[tensor] = self._taint_of(tensor) | bit

    def _new_call(self, index: int, upstream: int, forward: bool) -> int:
        self.calls.append(Call(self._layers[index], upstream, forward))
        return 1 << (len(self.calls) - 1 + _FIRST_CALL_BIT)

    def _union(self, tensors: list[Tensor]) -> int:
        return reduce(or_, map(self._taint_of, tensors), 0)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        inputs = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        data, weights = self._union(inputs), reduce(or_, (self._weights.get(tensor, 0) for tensor in inputs), 0)
        result = func(*args, **kwargs)
        upstream = data
        for index in range(weights.bit_length()):
            if not weights >> index & 1:
                continue
            if index in self._active:
                data |= self._active[index]
            elif upstream:
                data |= self._new_call(index, upstream, forward=False)
        if data & RAW and func.overloadpacket.__name__ in _EMBEDDINGS:
            data |= EMBEDDED
        outputs = [leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]
        if data:
            written = _written(func, args, kwargs)
            for tensor in (*outputs, *written):
                self._taints[tensor] = self._taints.get(tensor, 0) | data
            for tensor in written:
                if (storage := _storage(tensor)) is not None:
                    self._written[storage] = self._written.get(storage, 0) | data
        elif weights:
            for tensor in outputs:
                self._weights[tensor] = weights
        return result


def trace(model: nn.Module, layers: list[WeightLayer], example: Any) -> Flow:
    """Run `model` on `example` and return a `Flow`: the calls of `layers` and the taints of the outputs.

    The model stays as it was. `example` is a tensor, a tuple of arguments or a mapping of keyword arguments.
    """
    flow = Flow(layers)
    with ExitStack() as stack:
        for index, layer in enumerate(layers):
            before, after = partial(flow._before, index), partial(flow._after, index)
            stack.callback(layer.module.register_forward_pre_hook(before, with_kwargs=True).remove)
            stack.callback(layer.module.register_forward_hook(after).remove)
        stack.callback(model.register_forward_pre_hook(flow._enter, with_kwargs=True, prepend=True).remove)
        stack.enter_context(flow)
        answer = run(model, example)
    outputs = tensors_in(answer)
    if isinstance(answer, dict):  # without the by-products of Hugging Face's models, unless nothing else is left
        results = {key: value for key, value in answer.items() if not str(key).endswith(_BY_PRODUCTS)}
        outputs = tensors_in(results) or outputs
    flow.outputs = [flow._taint_of(tensor) for tensor in outputs]
    return flow


def _modules(calls: Iterable[Call]) -> set[nn.Module]:
    return {call.layer.module for call in calls}


def _written(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Tensor]:
    """List the arguments that `func` writes in place."""
    declared = func._schema.arguments
    given = [*zip(declared, args, strict=False), *((a, kwargs[a.name]) for a in declared if a.name in kwargs)]
    values = [value for argument, value in given if argument.alias_info is not None and argument.alias_info.is_write]
    return [leaf for leaf in tree_leaves(values) if isinstance(leaf, Tensor)]


def _storage(tensor: Tensor) -> StorageWeakRef | None:
    """Return a key for the memory of `tensor`, not reused while it is held; None without memory (sparse)."""
    try:
        return StorageWeakRef(tensor.untyped_storage())
    except (NotImplementedError, RuntimeError):
        return None
