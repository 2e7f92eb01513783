"""The edge layers of a network: those that see its raw input and those that make an output."""

from functools import reduce
from operator import or_

from torch import nn

from proxconnect.conversion.eligibility import WeightLayer
from proxconnect.conversion.flow import RAW, Flow


def traced_edges(flow: Flow) -> dict[str, str]:
    """Find the edges by the flow of data; return the reason by layer name.

    A layer sees the raw input if one of its calls has the input upstream, but no watched layer and no embedding of the
    input. It makes an output if the output depends on it, and on no watched layer that has it upstream.
    """
    edges = {call.layer.name: "edge: sees the raw input" for call in flow.calls if call.upstream == RAW}
    for taint in set(flow.outputs):
        ancestors = flow.ancestors(taint)
        upstream = reduce(or_, (call.upstream for _, call in ancestors), 0)
        edges.update({call.layer.name: "edge: makes an output" for bit, call in ancestors if not upstream & bit})
    return edges


def registered_edges(model: nn.Module, layers: list[WeightLayer]) -> dict[str, str]:
    """Find the edges by order of registration; return the reason by layer name.

    The edges are the first layer that has a binary form, unless an embedding is registered before it, the last such
    layer, and the heads that timm's `get_classifier` or Hugging Face's `get_output_embeddings` return.
    """
    known = [layer for layer in layers if layer.form is not None]
    if not known:
        return {}
    edges = {known[-1].name: "edge: the last layer registered"}
    for getter in ("get_classifier", "get_output_embeddings"):
        try:
            named = getattr(model, getter)()
        except (TypeError, AttributeError, NotImplementedError):  # takes arguments, or only subclasses have it
            continue
        heads = named if isinstance(named, tuple | list) else (named,)
        modules = {module for head in heads if isinstance(head, nn.Module) for module in head.modules()}
        edges.update({layer.name: f"edge: {getter}() names it" for layer in known if layer.module in modules})
    before = layers[: layers.index(known[0])]
    if not any(isinstance(layer.module, nn.Embedding | nn.EmbeddingBag) for layer in before):
        edges[known[0].name] = "edge: the first layer registered"
    return edges
