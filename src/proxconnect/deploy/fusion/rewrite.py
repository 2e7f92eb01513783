"""From the graph of a module to one that runs fused operations."""

import copy

from torch import fx, nn
from torch.fx import Node

from proxconnect.deploy.fusion.binary_products import product_of
from proxconnect.deploy.fusion.layout import keep_channels_last
from proxconnect.deploy.fusion.mutation import separate_writes
from proxconnect.deploy.fusion.operations import OPERATIONS
from proxconnect.deploy.fusion.origins import note_names, note_shifted, origins
from proxconnect.deploy.fusion.rewriting import Rewriting
from proxconnect.deploy.fusion.steps import is_nothing
from proxconnect.deploy.packed.layers.one_bit import KernelConv


def rewrite(module: nn.Module, graph: fx.Graph, *, has_fast_floats: bool = False) -> Rewriting:
    """Rewrite the graph of `module` in place; UntraceableError if it writes into what it reads later."""
    work = Rewriting(graph, dict(module.named_modules()), copy.deepcopy(graph), has_fast_floats)
    note_names(graph, work.traced)
    called = [work.modules[str(node.target)] for node in graph.nodes if node.op == "call_module"]
    work.has_images = any(isinstance(layer, KernelConv) and len(layer.kernel_size) == 2 for layer in called)
    separate_writes(graph, work.modules)
    graph.eliminate_dead_code(_has_effects)
    for node in list(graph.nodes):
        _leave_out_nothing(work, node)
    for node in list(graph.nodes):
        _take_out_shift(work, node)
    for operation in OPERATIONS:
        for node in list(graph.nodes):
            if match := operation.match(work, node):
                work.put(match)
    if work.has_images:
        keep_channels_last(graph, work.modules)
    graph.eliminate_dead_code(_has_effects)
    return work


def _has_effects(node: Node) -> bool:
    """Return whether a node does more than answer: modules write into nothing that is read later."""
    return node.op in ("placeholder", "output") or (node.op == "call_function" and node.is_impure())


def _leave_out_nothing(work: Rewriting, node: Node) -> None:
    """Erase a module that gives back its input."""
    module = work.module_of(node)
    if module is not None and is_nothing(module):
        (value,) = node.all_input_nodes
        work.read.append(module)
        work.nothing[origins(node)[-1]] = origins(value)[-1]
        node.replace_all_uses_with(value)
        work.graph.erase_node(node)


def _take_out_shift(work: Rewriting, head: Node) -> None:
    """Let what a binary layer adds to its input stand before it, where it may follow another layer."""
    layer = product_of(work, head)
    if layer is not None and layer.input_shift is not None:
        with work.graph.inserting_before(head):
            shift = work.graph.call_module(f"{head.target}.input_shift", head.args)
        note_shifted(shift, head)
        head.args = (shift,)
