"""Run the fused graph of a module in the place of its layers, after checking that it gives the same answers."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from typing import Any

import torch
from torch import fx, nn

from proxconnect._support.example import tensors_in
from proxconnect.deploy.fusion.attention import FastAttention
from proxconnect.deploy.fusion.calls import Kind, are_plain, ordered, sort
from proxconnect.deploy.fusion.closeness import gap
from proxconnect.deploy.fusion.images import are_apart, in_parts, with_channels_last
from proxconnect.deploy.fusion.operation import Rewriting
from proxconnect.deploy.fusion.passes import rewrite
from proxconnect.deploy.fusion.segments import Examination, Segments
from proxconnect.deploy.fusion.sizes import UnforeseenSizesError
from proxconnect.deploy.fusion.sources import Sources
from proxconnect.deploy.fusion.trace import UntraceableError, one_at_a_time, required_parameters, trace

_CLOSE = 1e-3
"""The largest error of a graph's output that needs no examination, relative to the largest entry."""

_MOST_CHANGES = 16
"""How often a graph is made again without having run twice: a network that changes more often runs by layers."""

_MOST_LESSONS = 8
"""How often a graph is made again for other decisions about the sizes of the first inputs."""

_MOST_KINDS = 4
"""The most kinds of calls that have graphs, besides that with the arguments without defaults."""


class GraphForward:
    """The callable that runs the fused graph of a module, or the module's own forward `own` if the graph cannot.

    The graph runs for plain inputs on the CPU, in `eval()`, without gradients, tracing, transforms and hooks. It is
    made again if a tensor, module or value from which it was made changes. It is given up with a warning if that fails
    or is needed before each of many calls, or if its first output without NaN differs from that of the own forward by
    more than rounding can explain (`Examination`). The constructor raises UntraceableError if the module cannot be
    traced. `has_fast_floats` lets kernels replace float operations of torch. `fuse_children` gets the module and
    `has_fast_floats` at the first call for which the module itself has no graph.

    The graph is of the calls that give exactly the parameters without defaults. Other calls get a `GraphForward` for
    each `Kind`, made when it is first seen. Conditions on sizes are assumed, learned from the first inputs, and checked
    in each run. If they differ later, the layers run.
    """

    work: Rewriting
    is_paused = _is_given_up = _is_checked = _has_fused_children = False
    _changes = 0
    _run: Any = None
    """The method that runs the graph; None if there is no graph."""
    _sources: Sources | None = None
    _examinations: list[Examination] | None = None

    def __init__(
        self, module: nn.Module, own: Callable[..., Any], fuse_children: Callable[[nn.Module, bool], None], *,
        has_fast_floats: bool = False,
    ) -> None:  # fmt: skip
        self.module, self._own, self._has_fast_floats = module, own, has_fast_floats
        self._fuse_children = fuse_children
        self.names = required_parameters(own)
        if not self.names:
            raise UntraceableError("its forward takes no argument without a default")
        self._decisions: list[Any] = []
        self._by_kind: dict[Kind, GraphForward | None] = {}
        self._fuse()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the graph, or the module's own forward if the graph cannot or must not run for this call."""
        inputs = ordered(self.names, args, kwargs)
        if inputs is None:
            return self._of_other_kind(args, kwargs)
        if not are_plain(inputs):
            return self.own(*args, **kwargs)
        if self.is_paused:
            return self._by_layers(*inputs)
        if self._is_outdated():
            self._fuse_again()
        else:
            self._changes = 0
        assert self._sources is not None
        if self._is_given_up or self._sources.are_hooked():
            return self.own(*args, **kwargs)
        if self._sources.is_in_training():
            self.require_comparison()
            return self.own(*args, **kwargs)
        if not self._is_checked and not self._fits(inputs):
            return self.own(*inputs)
        if self._examinations is not None:
            self._examinations.append(self._examination(inputs))
            return self._examinations[-1].answer
        if not self._is_checked:
            return self._checked(inputs)
        try:
            return in_parts(self._run, *inputs) if self._are_apart else self._run(*inputs)
        except UnforeseenSizesError:
            return self._by_layers(*inputs)
        except Exception as error:  # whatever the operations raise
            fault = f"{type(error).__name__}: {error}"
        answer = self.own(*inputs)  # which may say itself what is wrong with this input
        self._warn("does not take this input", fault, stacklevel=6)
        return answer

    def own(self, *args: Any, **kwargs: Any) -> Any:
        """Return the output of the module's own forward, run without the graph."""
        return self._own(self.module, *args, **kwargs)

    def require_comparison(self) -> None:
        """Look for changes of large tensors too before the graph runs again, as after training."""
        if self._sources is not None:
            self._sources.require_comparison()
        for other in filter(None, self._by_kind.values()):
            other.require_comparison()

    @contextmanager
    def examined(self) -> Iterator[list[Examination]]:
        """In this context, calls that the graph supports run the layers; yield a list that gets their examinations."""
        before = self._examinations
        try:
            self._examinations = []
            yield self._examinations
        finally:
            self._examinations = before

    @contextmanager
    def run_by(self, runner: Callable[[fx.GraphModule], Callable[..., Any]]) -> Iterator[None]:
        """In this context, calls run the function that `runner(graph)` returned instead of the graph, as to profile."""
        graphs = [self, *filter(None, self._by_kind.values())]
        runs = [graph._run for graph in graphs]
        try:
            for graph, run in zip(graphs, runs, strict=True):
                graph._run = run and runner(run.__self__)
            yield
        finally:
            for graph, run in zip(graphs, runs, strict=True):
                graph._run = run

    def _fuse(self) -> None:
        graph, reach, self._decisions = trace(self.module, self._own, self._decisions)
        with torch.device("cpu"):  # where kernels read, whatever the default is
            self.work = rewrite(self.module, graph, has_fast_floats=self._has_fast_floats)
        sources = Sources(self.module, graph, self.work.read, reach)
        self._are_apart = are_apart(graph, self.work.modules)
        self._is_checked = self._is_given_up = False
        self._run = fx.GraphModule(self.module, graph).forward
        self._sources = sources  # last, since other threads take the rest to fit it

    def _is_outdated(self) -> bool:
        """Return True if there is no graph, as after unpickling, or the module has changed since it was made."""
        return self._sources is None or self._sources.have_changed()

    def _fuse_again(self) -> None:
        """Make the graph again, or give it up if the module can no longer be traced, or always changes."""
        with one_at_a_time:
            if not self._is_outdated():  # another thread has made it
                return
            self._changes += 1
            try:
                if self._changes > _MOST_CHANGES:
                    raise UntraceableError(f"its numbers have changed before each of the last {_MOST_CHANGES} calls")
                self._fuse()
            except UntraceableError as error:
                self._give_up(str(error))
                self._sources = Sources(self.module, fx.Graph(), ())  # until modules are replaced

    def _of_other_kind(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run the graph of a call with other arguments, or the module's own forward if it gets no graph."""
        kind, inputs = sort(self._own, args, kwargs) or (None, ())
        if self._is_given_up or not are_plain(inputs):
            return self.own(*args, **kwargs)
        if self.is_paused:
            return self._by_layers(*args, **kwargs)
        other = None if kind is None else self._graph_of(kind)
        if other is None:
            if not self._has_fused_children:
                self._has_fused_children = True
                self._fuse_children(self.module, self._has_fast_floats)
            return self.own(*args, **kwargs)
        other._examinations = self._examinations
        return other(*inputs)

    def _graph_of(self, kind: Kind) -> "GraphForward | None":
        """Return the graph for a kind of calls, which is made when the kind is first seen; None if there is none."""
        if kind not in self._by_kind and len(self._by_kind) < _MOST_KINDS:
            self._by_kind[kind] = None
            with suppress(UntraceableError):
                self._by_kind[kind] = GraphForward(
                    self.module, kind.of(self._own), self._fuse_children, has_fast_floats=self._has_fast_floats
                )
        return self._by_kind.get(kind)

    def _fits(self, inputs: tuple[Any, ...]) -> bool:
        """Make the graph again until it fits the sizes of the first inputs; False if it is given up instead."""
        if not self._decisions:
            return True
        for _ in range(_MOST_LESSONS):
            try:
                self._run(*inputs)
            except UnforeseenSizesError as error:
                self._decisions = [*self._decisions[: error.question], error.answer]
            except Exception:  # whatever the operations raise, a comparison reports it
                return True
            else:
                return True
            try:
                self._fuse()
            except UntraceableError as error:
                self._give_up(str(error))
                return False
        self._give_up("it decides too often by sizes")
        return False

    def _checked(self, inputs: tuple[Any, ...]) -> Any:
        """Return the graph's output after comparing it with the layers', or the module's own if the graph is wrong."""
        _, expected = self._as_the_graph(inputs, self._by_layers)
        try:
            answer = self._run(*inputs)
            off = gap(expected, answer)
            fault = "" if off <= _CLOSE else f"its answer is off by {off:.1e} from that of the module's forward"
        except Exception as error:  # whatever the operations raise
            answer, fault = None, f"it raises {type(error).__name__}: {error}"
        is_lost = any(tensor.isnan().any() for tensor in tensors_in(expected))  # NaN proves nothing: compare again
        if fault and answer is not None and not is_lost:
            fault = self._examination(inputs).fault(fault)
        if not fault:
            self._is_checked = not is_lost
            return answer
        if not is_lost:
            self._give_up(fault)
        return self.own(*inputs)

    def _examination(self, inputs: tuple[Any, ...]) -> Examination:
        """Compare each operation of the graph with its layers on these inputs."""
        with torch.no_grad():
            laid_out, answer = self._as_the_graph(inputs, self.own)
            segments = Segments(self.module, self.work, is_apart=self._are_apart)
            return segments.examined(inputs, laid_out, answer)

    def _as_the_graph(self, inputs: tuple[Any, ...], answer_to: Callable[..., Any]) -> tuple[tuple[Any, ...], Any]:
        """Return the inputs and `answer_to` them, in channels_last if the graph uses it and the layers can."""
        if self.work.has_images:
            with suppress(RuntimeError):
                laid_out = tuple(map(with_channels_last, inputs))
                return laid_out, answer_to(*laid_out)
        return inputs, answer_to(*inputs)

    def _by_layers(self, *args: Any, **kwargs: Any) -> Any:
        """Run the module's own forward with the graph's attention."""
        with FastAttention() if self._has_fast_floats else nullcontext():
            return self.own(*args, **kwargs)

    def _give_up(self, fault: str) -> None:
        self._is_given_up = True
        self._warn("is given up", fault, stacklevel=8)

    def _warn(self, what: str, fault: str, stacklevel: int) -> None:
        """Warn at the line that calls the module."""
        graph = f"the fused graph of {type(self.module).__name__}"
        warnings.warn(f"{graph} {what}, so that it runs layer by layer, more slowly: {fault}", stacklevel=stacklevel)

    def __getstate__(self) -> dict[str, Any]:
        """Return the state for copies and pickles, without the graph, which they make again."""
        kept = ("module", "names", "_has_fast_floats", "_fuse_children", "_decisions")
        return {name: vars(self)[name] for name in kept}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ |= state
        self._own = type(self.module)._own_forward  # type: ignore[attr-defined]  # of the subclasses that run graphs
        self._by_kind = {}
