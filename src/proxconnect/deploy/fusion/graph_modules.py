"""Make modules run their fused graphs: replace their class by a subclass of the same name, in place."""

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from proxconnect.deploy.fusion.forward import GraphForward
from proxconnect.deploy.fusion.rewriting import Rewriting
from proxconnect.deploy.fusion.trace import UntraceableError


def let_forward_be_fused(module: nn.Module, *, has_fast_floats: bool = False) -> Rewriting:
    """Make `module` run its fused graph, in place, if that contains a fused operation. Return the rewritten graph.

    UntraceableError if the module cannot be traced.
    """
    if "forward" in vars(module):
        raise UntraceableError("its forward was replaced")
    own: Any = type(module).forward
    own = own.__wrapped__ if isinstance(module, _RunsGraph) else own
    fused = GraphForward(module, own, has_fast_floats=has_fast_floats)
    if fused.work.counts:
        cls: Any = type(module)
        module.__class__ = cls if issubclass(cls, _RunsGraph) else _class_that_runs_graphs(cls)
        vars(module)["_graph_forward"] = fused
    return fused.work


def graph_forward(module: nn.Module) -> GraphForward | None:
    """Return the `GraphForward` of a module, or None."""
    return vars(module).get("_graph_forward")


@contextmanager
def layer_by_layer(model: nn.Module) -> Iterator[None]:
    """In this context, run the layers of `model` instead of its fused graphs."""
    running = [fused for m in model.modules() if (fused := graph_forward(m)) is not None and not fused.is_paused]
    try:
        for fused in running:
            fused.is_paused = True
        yield
    finally:
        for fused in running:
            fused.is_paused = False


class _RunsGraph(nn.Module):
    """The mixin of the subclasses whose forward runs a fused graph. They have the names of their base classes."""

    def __reduce_ex__(self, protocol: Any) -> Any:
        return _blank, (type(self).__bases__[1],), self.__getstate__()


@functools.cache
def _class_that_runs_graphs(base: Any) -> Any:
    """Return a subclass of `base` whose forward runs the fused graph, or that of `base` under torch.compile."""

    @functools.wraps(base.forward)
    def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
        if torch.compiler.is_compiling():
            return base.forward(self, *args, **kwargs)
        fused = vars(self).get("_graph_forward")
        # A slice of a container is made by its class, without a graph; a shallow copy holds that of another module.
        if fused is None or fused.module is not self:
            return base.forward(self, *args, **kwargs)
        return fused(*args, **kwargs)

    names = {name: getattr(base, name) for name in ("__module__", "__qualname__", "__doc__")}
    return type(base.__name__, (_RunsGraph, base), {**names, "forward": forward})


def _blank(base: Any) -> nn.Module:
    """Return an instance without state of the subclass of `base`, for unpickling."""
    cls = _class_that_runs_graphs(base)
    blank: nn.Module = cls.__new__(cls)
    return blank
