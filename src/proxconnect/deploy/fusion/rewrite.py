"""From the graph of a module to one whose binary layers run with all that follows them."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import fx, nn
from torch.fx import Node

from proxconnect.deploy.fusion.attention import fused_attention
from proxconnect.deploy.fusion.finishes import FusedNorm, FusedNormPool, can_pool
from proxconnect.deploy.fusion.float_conv import FusedFloatConv, can_convolve, stride_of_seen
from proxconnect.deploy.fusion.image_conv import FusedImageConv, can_average
from proxconnect.deploy.fusion.int8 import FusedInt8Conv, FusedInt8Rows, can_multiply
from proxconnect.deploy.fusion.layout import keep_channels_last
from proxconnect.deploy.fusion.links import Link, chain_from, is_nothing, link_of, steps_of
from proxconnect.deploy.fusion.mutation import separate_writes
from proxconnect.deploy.fusion.origins import note_names, note_shifted, origins, stand_for
from proxconnect.deploy.fusion.overwriting import OverwritingGelu
from proxconnect.deploy.fusion.products import (
    FusedProduct,
    can_fuse,
    can_shift,
    channels_of,
    fused,
    output_bits,
    takes_bits,
)
from proxconnect.deploy.packed.layers.by_kernels import KernelConv, KernelLayer
from proxconnect.deploy.packed.layers.int8_products import Int8Conv2d, Int8Linear
from proxconnect.kernels.attention import has_attention
from proxconnect.kernels.epilogue import Step
from proxconnect.layers.react import Shift

_FLATTENING: tuple[Any, ...] = ("flatten", "reshape", torch.flatten, torch.reshape)


@dataclass
class Rewriting:
    """A graph that is being rewritten, and what was fused."""

    graph: fx.Graph
    modules: dict[str, nn.Module]
    traced: fx.Graph
    """The graph as it was before."""
    nothing: dict[str, str] = field(default_factory=dict)
    """By the name of a traced node that was left out, the name of the node whose value it gives back."""
    read: list[nn.Module] = field(default_factory=list)
    """The modules whose numbers went into operations, or that were left out."""
    has_images: bool = False
    """Whether images have their channels last."""
    products: int = 0
    links: int = 0
    """What runs in the same pass as a product."""
    bits: int = 0
    """The products whose output stays bits."""
    norms: int = 0
    """The batch norms of floats that run in one pass with what follows."""
    int8: int = 0
    """The 8-bit layers that run in one pass with what stands around them."""
    float_convs: int = 0
    """The float convolutions that kernels run so."""
    attentions: int = 0
    """The attentions of floats that run in one pass."""

    @property
    def changes_anything(self) -> bool:
        """Whether something was fused."""
        return bool(self.products or self.norms or self.int8 or self.float_convs or self.attentions)

    def module_of(self, node: Any) -> nn.Module | None:
        """What a node calls, if that is a module with the forward of its class."""
        module = self.modules[str(node.target)] if isinstance(node, Node) and node.op == "call_module" else None
        return None if module is None or "forward" in vars(module) else module


def rewrite(module: nn.Module, graph: fx.Graph, *, has_fast_floats: bool = False) -> Rewriting:
    """Rewrite the graph of `module` in place; UntraceableError where it writes into what it reads later."""
    work = Rewriting(graph, dict(module.named_modules()), copy.deepcopy(graph))
    note_names(graph, work.traced)
    work.has_images = any(_is_image_layer(work.module_of(node)) for node in graph.nodes)
    separate_writes(graph, work.modules)
    graph.eliminate_dead_code(_has_effects)
    changes = [_leave_out_nothing, _take_out_shift, _fuse_product, _overwrite, _fuse_int8]
    changes += [_fuse_float_conv] if work.has_images and has_fast_floats else []
    changes += [_fuse_norm] if work.has_images else []
    changes += [_fuse_attention] if has_fast_floats and has_attention() else []
    for change in changes:
        for node in list(graph.nodes):
            change(work, node)
    if work.has_images:
        keep_channels_last(graph, work.modules, lambda node: isinstance(node.target, FusedImageConv))
    graph.eliminate_dead_code(_has_effects)
    return work


def _is_image_layer(module: nn.Module | None) -> bool:
    """Whether it is a packed convolution of images, which are read best with their channels last."""
    return isinstance(module, KernelConv) and len(module.kernel_size) == 2


def _has_effects(node: Node) -> bool:
    """Whether a node does more than answer: what modules call writes into nothing that is read later."""
    return node.op in ("placeholder", "output") or (node.op == "call_function" and node.is_impure())


def _leave_out_nothing(work: Rewriting, node: Node) -> None:
    module = work.module_of(node)
    if module is not None and is_nothing(module) and len(node.args) == 1 and not node.kwargs:
        value: Any = node.args[0]
        work.read.append(module)
        work.nothing[origins(node)[-1]] = origins(value)[-1]
        node.replace_all_uses_with(value)
        work.graph.erase_node(node)


def _product_of(work: Rewriting, node: Node) -> KernelLayer | None:
    """The binary layer that a node calls, if it can run with what follows it."""
    layer = work.module_of(node)
    if not isinstance(layer, KernelLayer) or not can_fuse(layer) or len(node.args) != 1 or node.kwargs:
        return None
    return layer


def _take_out_shift(work: Rewriting, head: Node) -> None:
    """Let what a binary layer adds to its input stand before it, where it may follow another layer."""
    layer = _product_of(work, head)
    if layer is not None and layer.input_shift is not None:
        with work.graph.inserting_before(head):
            shift = work.graph.call_module(f"{head.target}.input_shift", head.args)
        note_shifted(shift, head)
        head.args = (shift,)


def _fuse_product(work: Rewriting, head: Node) -> None:
    """Put one call in the place of a binary layer, its links and a shift that no layer before it took."""
    layer = _product_of(work, head)
    if layer is None:
        return
    before: Any = head.args[0]
    shift = _shift_before(work, before, layer)
    links = chain_from(head, work.modules, channels_of(layer), are_images=isinstance(layer, KernelConv))
    then: Any = output_bits(layer, links) if _leads_to_bits(work, layer, links[-1].node if links else head) else None
    if then is not None:
        work.bits += 1
    else:
        then = steps_of(links, channels_of(layer))
        links = links[: len(then)]
    work.products += 1
    work.links += len(links)
    work.read += [layer, *([] if shift is None else [shift])]
    work.read += [link.module for link in links if link.module is not None]
    value = before if shift is None else before.args[0]
    _replace(work.graph, [head, *(link.node for link in links)], fused(layer, links, then, shift), value, links)
    if shift is not None and not before.users:
        work.graph.erase_node(before)


def _shift_before(work: Rewriting, node: Any, layer: KernelLayer) -> Shift | None:
    """What `node` calls, if that is a shift which runs in the pass of the layer that reads it."""
    module = work.module_of(node)
    if not isinstance(module, Shift) or len(node.args) != 1 or node.kwargs or not can_shift(layer, module):
        return None
    return module


def _leads_to_bits(work: Rewriting, layer: KernelLayer, last: Node) -> bool:
    """Whether all that reads a value takes it as bits of channels where `layer` has them."""
    readers = [(user, work.module_of(user)) for user in last.users]
    has_channels = isinstance(layer, KernelConv)  # not in the last dimension, where a linear layer reads them
    fits = [m is not None and takes_bits(m) and isinstance(m, KernelConv) == has_channels for _, m in readers]
    return bool(readers) and all(fits) and all(user.args == (last,) for user, _ in readers)


def _overwrite(work: Rewriting, node: Node) -> None:
    """Have a GELU write into the floats of a product that it alone reads."""
    gelu, value = work.module_of(node), node.args[0] if len(node.args) == 1 else None
    if type(gelu) is not nn.GELU or node.kwargs or not isinstance(value, Node) or len(value.users) > 1:
        return
    if isinstance(value.target, FusedProduct):
        work.read.append(gelu)
        _replace(work.graph, [node], OverwritingGelu(gelu), value, ())


def _fuse_int8(work: Rewriting, head: Node) -> None:
    """Put one call in the place of an 8-bit layer and its links, with the mean before it and a max pool of images."""
    layer = work.module_of(head)
    if not isinstance(layer, Int8Linear | Int8Conv2d) or len(head.args) != 1 or head.kwargs or not can_multiply(layer):
        return
    if isinstance(layer, Int8Linear):
        work.int8 += 1
        _fuse_rows(work, head, layer)
    elif _may_be_turned(work, head):
        work.int8 += 1
        _fuse_conv(work, head, layer, layer.stride_of_seen(), FusedInt8Conv)


def _fuse_rows(work: Rewriting, head: Node, layer: Int8Linear) -> None:
    """Put one call in the place of an 8-bit linear layer and its links."""
    links = chain_from(head, work.modules, layer.out_features, are_images=False)
    steps = steps_of(links, layer.out_features)
    links = links[: len(steps)]
    work.read += [layer, *(link.module for link in links if link.module is not None)]
    nodes = [head, *(link.node for link in links)]
    _replace(work.graph, nodes, FusedInt8Rows(layer, links, steps), head.args[0], links)


def _fuse_float_conv(work: Rewriting, head: Node) -> None:
    """Put one call in the place of a float convolution that kernels take, and of what stands around it."""
    layer = work.module_of(head)
    if isinstance(layer, nn.Conv2d) and len(head.args) == 1 and not head.kwargs and can_convolve(layer):
        work.float_convs += 1
        _fuse_conv(work, head, layer, stride_of_seen(layer), FusedFloatConv)


def _may_be_turned(work: Rewriting, conv: Node) -> bool:
    """Whether the channels of its output may lie last: where the graph has them so, or makes rows of pixels."""
    return work.has_images or all(user.target in _FLATTENING for user in conv.users)


def _fuse_conv(work: Rewriting, head: Node, layer: Any, stride: tuple[int, int], fused_form: Any) -> None:
    """Put one call in the place of a convolution, before which `stride` is taken, and of what stands around it."""
    links = chain_from(head, work.modules, layer.out_channels, are_images=True)
    steps = steps_of(links, layer.out_channels)
    links = links[: len(steps)]
    nodes = [head, *(link.node for link in links)]
    before: Any = head.args[0]
    mean, pool = _mean_before(work, before, stride), _pool_behind(work, nodes[-1], steps)
    nodes = [*([before] if mean is not None else []), *nodes, *(nodes[-1].users if pool is not None else [])]
    work.read += [layer, *(link.module for link in links if link.module is not None)]
    _replace(work.graph, nodes, fused_form(layer, mean, links, steps, pool), nodes[0].args[0], links)


def _mean_before(work: Rewriting, node: Node, stride: tuple[int, int]) -> nn.AvgPool2d | None:
    """What `node` calls, if that is a mean that the layer alone reads and that can run in the same pass."""
    module = work.module_of(node)
    if not isinstance(module, nn.AvgPool2d) or not can_average(module, stride):
        return None
    return module if len(node.users) == 1 and len(node.args) == 1 and not node.kwargs else None


def _pool_behind(work: Rewriting, last: Node, steps: Sequence[Step]) -> nn.MaxPool2d | None:
    """The max pool that alone reads a value, if it can run in the same pass as the steps that make that."""
    readers = list(last.users)
    pool = work.module_of(readers[0]) if len(readers) == 1 else None
    if not isinstance(pool, nn.MaxPool2d) or not can_pool(pool, steps):
        return None
    return pool if readers[0].args == (last,) and not readers[0].kwargs else None


def _fuse_norm(work: Rewriting, head: Node) -> None:
    """Put one call in the place of a batch norm of images and its links."""
    norm = work.module_of(head)
    if not isinstance(norm, nn.BatchNorm2d) or len(head.args) != 1 or head.kwargs:
        return
    value: Any = head.args[0]
    if not isinstance(value, Node):  # it was erased: another norm runs it
        return
    first = link_of(head, value, work.modules)
    following = chain_from(head, work.modules, norm.num_features, are_images=True)
    links = [] if first is None else [first, *following]
    steps = steps_of(links, norm.num_features)
    if not steps:
        return
    links = links[: len(steps)]
    nodes = [link.node for link in links]
    work.norms += 1
    work.read += [link.module for link in links if link.module is not None]
    pool = _pool_behind(work, nodes[-1], steps)
    operation: FusedNorm | FusedNormPool
    if pool is not None:
        operation = FusedNormPool(norm.num_features, links, steps, pool)
        nodes += nodes[-1].users
    else:
        is_fresh = isinstance(work.module_of(value), nn.Conv2d) and len(value.users) == 1
        operation = FusedNorm(norm.num_features, links, steps, in_place=is_fresh)
    _replace(work.graph, nodes, operation, value, links)


def _fuse_attention(work: Rewriting, node: Node) -> None:
    """Put one call in the place of an attention of floats and what turns its output."""
    found = fused_attention(node)
    if found is not None:
        work.attentions += 1
        _put_call(work.graph, found.nodes, found.operation, found.arguments)


def _replace(graph: fx.Graph, nodes: Sequence[Node], operation: Any, value: Any, links: Sequence[Link]) -> None:
    """Put one call of `operation`, on a value and what the links add, in the place of nodes that follow each other."""
    _put_call(graph, nodes, operation, (value, *(link.other for link in links if link.other is not None)))


def _put_call(graph: fx.Graph, nodes: Sequence[Node], operation: Any, arguments: tuple[Any, ...]) -> None:
    """Put one call in the place of nodes that follow each other."""
    name_for_code(operation, nodes[0].name)
    with graph.inserting_after(nodes[-1]):
        call = graph.call_function(operation, arguments)
    stand_for(call, nodes)
    nodes[-1].replace_all_uses_with(call)
    for node in reversed(nodes):
        graph.erase_node(node)


def name_for_code(operation: Any, name: str) -> None:
    """Let the code that is made of a graph call an object by a name of its own."""
    operation.__name__ = operation.__qualname__ = f"fused_{name}"
