"""The passes that turn a traced torch.fx graph into one that runs fused operations."""

import copy

from torch import fx, nn
from torch.fx import Node

from proxconnect.deploy.fusion.attention import Attention
from proxconnect.deploy.fusion.binary_products import BinaryProduct, OverwritingGelu, product_of
from proxconnect.deploy.fusion.images import keep_channels_last
from proxconnect.deploy.fusion.layer_norm import LayerNorm
from proxconnect.deploy.fusion.operation import SHIFTED, Operation, Rewriting, origins, set_origins
from proxconnect.deploy.fusion.pixel_means import PixelMeans
from proxconnect.deploy.fusion.remainder import FloatConv, ImageNorm, Int8Conv, Int8Rows, SignConv
from proxconnect.deploy.fusion.sign_convs import SignConvByFloats
from proxconnect.deploy.fusion.sizes import CHECKS
from proxconnect.deploy.fusion.steps import is_identity
from proxconnect.deploy.fusion.writes import separate_writes
from proxconnect.deploy.packed.layers.one_bit import KernelConv

OPERATIONS: tuple[type[Operation], ...] = (
    BinaryProduct, OverwritingGelu, SignConvByFloats, SignConv, Int8Rows, Int8Conv, FloatConv, ImageNorm, PixelMeans,
    LayerNorm, Attention,
)  # fmt: skip
"""The classes of fused operations, in the order in which they are matched. The first match takes a node."""


def rewrite(root: nn.Module, graph: fx.Graph, *, has_fast_floats: bool = False) -> Rewriting:
    """Replace nodes in the traced graph of the module `root` by fused operations, in place; return the record of it.

    `has_fast_floats` lets kernels replace float operations of torch. UntraceableError if `separate_writes` raises it.
    """
    work = Rewriting(graph, dict(root.named_modules()), copy.deepcopy(graph), has_fast_floats)
    for node, twin in zip(graph.nodes, work.traced.nodes, strict=True):
        set_origins(node, [twin.name])
    called = [work.modules[str(node.target)] for node in graph.nodes if node.op == "call_module"]
    work.has_images = any(isinstance(layer, KernelConv) and len(layer.kernel_size) == 2 for layer in called)
    separate_writes(graph, work.modules)
    graph.eliminate_dead_code(_has_effects)
    for node in list(graph.nodes):
        module = work.module_of(node)
        if module is not None and is_identity(module):
            (value,) = node.all_input_nodes
            work.identities[origins(node)[-1]] = origins(value)[-1]
            node.replace_all_uses_with(value)
            graph.erase_node(node)
    for head in list(graph.nodes):
        layer = product_of(work, head)
        if layer is not None and layer.input_shift is not None:  # a node, which the layer before may take over
            with graph.inserting_before(head):
                shift = graph.call_module(f"{head.target}.input_shift", head.args)
            set_origins(shift, [head.name + SHIFTED])
            head.args = (shift,)
    for operation in OPERATIONS:
        for node in list(graph.nodes):
            if match := operation.match(work, node):
                work.put(match)
    if work.has_images:
        keep_channels_last(graph, work.modules)
    graph.eliminate_dead_code(_has_effects)
    return work


def _has_effects(node: Node) -> bool:
    """Return True if dead-code elimination must keep a node. Modules are removable, unlike in torch.fx."""
    is_kept = node.op in ("placeholder", "output") or node.target in CHECKS
    return is_kept or (node.op == "call_function" and node.is_impure())
