"""The forward of a packed module by its fused graph, where that answers as its own forward does."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.autograd import forward_ad
from torch.nn.modules.module import _global_forward_hooks, _global_forward_pre_hooks
from torch.utils._python_dispatch import is_in_torch_dispatch_mode

from proxconnect._support.example import tensors_in
from proxconnect.deploy.fusion.attention import FastAttention
from proxconnect.deploy.fusion.batches import are_apart, in_parts
from proxconnect.deploy.fusion.closeness import gap
from proxconnect.deploy.fusion.layout import with_channels_last
from proxconnect.deploy.fusion.rewrite import rewrite
from proxconnect.deploy.fusion.rewriting import Rewriting
from proxconnect.deploy.fusion.segments import Examination, Segments
from proxconnect.deploy.fusion.sources import Sources
from proxconnect.deploy.fusion.trace import UntraceableError, one_at_a_time, required_parameters, trace

_CLOSE = 1e-3
"""How far the answers of a graph and of the layers may lie apart, by the largest of them."""


class GraphForward:
    """Runs the fused graph of a module, which holds it as `_graph_forward`, or the module's own forward.

    The graph is for plain inputs on the CPU, in `eval()` and without derivatives; whatever compiles, traces, transforms
    or watches the module, and every other input, gets its own forward. A graph is made anew where what it was made of
    has changed. Its first answer is compared with that of the module's own forward. If they differ, an examination
    decides: a graph is given up with a warning if the forward decides by what no graph shows, or if an operation
    differs from its layers, but not if a sign or a sort merely amplifies rounding.

    UntraceableError for a module that has no graph.
    """

    work: Rewriting
    _run: Callable[..., Any] | None
    _sources: Sources | None

    def __init__(self, module: nn.Module, own: Callable[..., Any], *, has_fast_floats: bool = False) -> None:
        self.module, self._own, self._has_fast_floats = module, own, has_fast_floats
        self.names = required_parameters(own)
        self.is_paused = False
        self._examinations: list[Examination] | None = None
        self._fuse()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """What the module answers."""
        inputs = self._inputs(args, kwargs)
        if not inputs or not are_plain(inputs):
            return self.own(*args, **kwargs)
        if self.is_paused:
            return self._by_layers(*inputs)
        if self._is_outdated():
            self._fuse_again()
        sources = self._sources
        assert sources is not None
        if self._is_given_up or sources.are_watched() or sources.need_gradients() or not sources.are_evaluating():
            return self.own(*args, **kwargs)
        assert self._run is not None
        if self._examinations is not None:
            self._examinations.append(self._examination(inputs))
            return self._examinations[-1].answer
        if not self._is_checked:
            return self._checked(inputs)
        try:
            return in_parts(self._run, *inputs) if self._are_apart else self._run(*inputs)
        except Exception as error:  # whatever the operations raise
            fault = f"{type(error).__name__}: {error}"
        answer = self.own(*inputs)  # which may say itself what is wrong with this input
        self._warn("does not take this input", fault, stacklevel=6)
        return answer

    def own(self, *args: Any, **kwargs: Any) -> Any:
        """What the module's own forward answers."""
        return self._own(self.module, *args, **kwargs)

    @contextmanager
    def examined(self) -> Iterator[list[Examination]]:
        """While this lasts, have the layers answer, and the graph examined on all that they get."""
        before = self._examinations
        try:
            self._examinations = []
            yield self._examinations
        finally:
            self._examinations = before

    @contextmanager
    def run_by(self, runner: Callable[[fx.GraphModule], Callable[..., Any]]) -> Iterator[None]:
        """While this lasts, have `runner(graph)` run in the place of the graph, if there is one, as for a profile."""
        run = self._run
        if run is None:
            yield
            return
        try:
            self._run = runner(run.__self__)  # type: ignore[attr-defined]  # it is a bound method
            yield
        finally:
            self._run = run

    def _fuse(self) -> None:
        graph = trace(self.module, self._own)
        with torch.device("cpu"):  # where kernels read, whatever the default is
            self.work = rewrite(self.module, graph, has_fast_floats=self._has_fast_floats)
        sources = Sources(self.module, graph, self.work.read)
        self._graph = fx.GraphModule(self.module, graph)
        self._are_apart = are_apart(graph, self.work.modules)
        self._segments = Segments(self.module, self.work, is_apart=self._are_apart)
        self._is_checked = self._is_given_up = False
        self._run = self._graph.forward
        self._sources = sources  # last, since other threads take the rest to fit it

    def _is_outdated(self) -> bool:
        """Whether there is no graph of what the module is by now."""
        return self._sources is None or self._sources.have_changed()

    def _fuse_again(self) -> None:
        """Make the graph of what the module is by now, which may have none."""
        with one_at_a_time:
            if not self._is_outdated():  # another thread has made it
                return
            try:
                self._fuse()
            except UntraceableError as error:
                self._give_up(str(error))
                self._sources = Sources(self.module, fx.Graph(), ())  # until modules are replaced

    def _inputs(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...] | None:
        """The values of the parameters without defaults; None where others are given too, or too few."""
        if len(args) + len(kwargs) != len(self.names):
            return None
        rest = self.names[len(args) :]
        return (*args, *(kwargs[name] for name in rest)) if all(name in kwargs for name in rest) else None

    def _checked(self, inputs: tuple[Any, ...]) -> Any:
        """The first answer of the graph, or that of the module itself where the graph is wrong.

        An answer that holds NaN proves nothing, and NaN may reach more by the graph: then the next one is compared too.
        """
        _, expected = self._as_the_graph(inputs, self._by_layers)
        try:
            answer = self._run(*inputs)  # type: ignore[misc]  # it was made
            off = gap(expected, answer)
            fault = "" if off <= _CLOSE else f"its answer is off by {off:.1e} from that of the module's forward"
        except Exception as error:  # whatever the operations raise
            answer, fault = None, f"it raises {type(error).__name__}: {error}"
        is_lost = any(tensor.isnan().any() for tensor in tensors_in(expected))
        if fault and answer is not None and not is_lost:
            fault = self._examination(inputs).fault(fault)
        if not fault:
            self._is_checked = not is_lost
            return answer
        if not is_lost:
            self._give_up(fault)
        return self.own(*inputs)

    def _examination(self, inputs: tuple[Any, ...]) -> Examination:
        """What these inputs show of the graph."""
        with torch.no_grad():
            laid_out, answer = self._as_the_graph(inputs, self.own)
            return self._segments.examined(inputs, laid_out, answer)

    def _as_the_graph(self, inputs: tuple[Any, ...], answer_to: Callable[..., Any]) -> tuple[tuple[Any, ...], Any]:
        """The inputs and what the layers answer, images laid out as the graph has them unless these cannot view them
        so."""
        if self.work.has_images:
            with suppress(RuntimeError):
                laid_out = tuple(map(with_channels_last, inputs))
                return laid_out, answer_to(*laid_out)
        return inputs, answer_to(*inputs)

    def _by_layers(self, *inputs: Any) -> Any:
        """What the module's own forward answers, its attention that of the graph."""
        with FastAttention() if self._has_fast_floats else nullcontext():
            return self.own(*inputs)

    def _give_up(self, fault: str) -> None:
        self._is_given_up = True
        self._warn("is given up", fault, stacklevel=8)

    def _warn(self, what: str, fault: str, stacklevel: int) -> None:
        """Warn at the line that calls the module."""
        graph = f"the fused graph of {type(self.module).__name__}"
        warnings.warn(f"{graph} {what}, so that it runs layer by layer, more slowly: {fault}", stacklevel=stacklevel)

    def __getstate__(self) -> dict[str, Any]:
        """What copies take: the graph is made anew."""
        kept = {name: vars(self)[name] for name in ("module", "names", "_has_fast_floats")}
        return {**kept, "is_paused": False, "_examinations": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ |= state
        self._own = type(self.module).forward.__wrapped__  # type: ignore[attr-defined]  # as `functools.wraps` calls it
        self._run = self._sources = None


def are_plain(inputs: tuple[Any, ...]) -> bool:
    """Whether these are tensors in memory and numbers, and nothing watches, transforms or traces what they go into."""
    has_gradients = torch.is_grad_enabled()
    for value in inputs:
        if type(value) is Tensor:
            if not value.is_cpu or value.layout is not torch.strided or (has_gradients and value.requires_grad):
                return False
            if value.is_neg():  # entries in memory have the other sign
                return False
        elif not (value is None or isinstance(value, int | float)):
            return False
    return not (
        torch.is_autocast_enabled("cpu")
        or forward_ad._current_level >= 0
        or torch._C._are_functorch_transforms_active()
        or is_in_torch_dispatch_mode()
        or torch._C._is_torch_function_mode_enabled()
        or torch._C._get_tracing_state() is not None
        or _global_forward_hooks
        or _global_forward_pre_hooks
    )
