"""The forward of a packed module by its fused graph, if that answers as its own forward does."""

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
from proxconnect.deploy.fusion.passes import rewrite
from proxconnect.deploy.fusion.rewriting import Rewriting
from proxconnect.deploy.fusion.segments import Examination, Segments
from proxconnect.deploy.fusion.sources import Sources
from proxconnect.deploy.fusion.trace import UntraceableError, one_at_a_time, required_parameters, trace

_CLOSE = 1e-3
"""The largest error of a graph's output that needs no examination, relative to the largest entry."""


class GraphForward:
    """Runs the fused graph of a module, or the module's own forward. The module holds it as `_graph_forward`.

    The graph runs for plain inputs on the CPU, in `eval()` and without gradients. All other inputs, and calls under
    torch.compile, tracing, transforms or hooks, run the own forward. If its sources change, the graph is made again.

    The first output of a graph is compared with that of the own forward. If they differ, `Examination` decides. The
    graph is given up with a warning if tracing missed a decision of the forward, or if an operation differs from its
    layers. It stays if a sign or a sort only amplifies rounding.

    UntraceableError if the module cannot be traced.
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
        """Run the graph, or the module's own forward if the graph does not support the call."""
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
        """Run the module's own forward."""
        return self._own(self.module, *args, **kwargs)

    @contextmanager
    def examined(self) -> Iterator[list[Examination]]:
        """In this context, run the layers, and collect an examination of the graph for each call."""
        before = self._examinations
        try:
            self._examinations = []
            yield self._examinations
        finally:
            self._examinations = before

    @contextmanager
    def run_by(self, runner: Callable[[fx.GraphModule], Callable[..., Any]]) -> Iterator[None]:
        """In this context, run the function `runner(graph)` instead of the graph, as for a profile."""
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
        self._are_apart = are_apart(graph, self.work.modules)
        self._segments = Segments(self.module, self.work, is_apart=self._are_apart)
        self._is_checked = self._is_given_up = False
        self._run = fx.GraphModule(self.module, graph).forward
        self._sources = sources  # last, since other threads take the rest to fit it

    def _is_outdated(self) -> bool:
        """Return True if there is no graph yet, or the module has changed since it was made."""
        return self._sources is None or self._sources.have_changed()

    def _fuse_again(self) -> None:
        """Make the graph again, or give it up if the module can no longer be traced."""
        with one_at_a_time:
            if not self._is_outdated():  # another thread has made it
                return
            try:
                self._fuse()
            except UntraceableError as error:
                self._give_up(str(error))
                self._sources = Sources(self.module, fx.Graph(), ())  # until modules are replaced

    def _inputs(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...] | None:
        """Return the arguments in order if exactly the parameters without defaults are given, else None."""
        if len(args) + len(kwargs) != len(self.names):
            return None
        rest = self.names[len(args) :]
        return (*args, *(kwargs[name] for name in rest)) if all(name in kwargs for name in rest) else None

    def _checked(self, inputs: tuple[Any, ...]) -> Any:
        """Return the graph's output after comparing it with the layers', or the module's own if the graph is wrong.

        An output that contains NaN proves nothing, so the next call is compared again.
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
        """Compare each operation of the graph with its layers on these inputs."""
        with torch.no_grad():
            laid_out, answer = self._as_the_graph(inputs, self.own)
            return self._segments.examined(inputs, laid_out, answer)

    def _as_the_graph(self, inputs: tuple[Any, ...], answer_to: Callable[..., Any]) -> tuple[tuple[Any, ...], Any]:
        """Return the inputs and `answer_to` them, in channels_last if the graph uses it and the layers can."""
        if self.work.has_images:
            with suppress(RuntimeError):
                laid_out = tuple(map(with_channels_last, inputs))
                return laid_out, answer_to(*laid_out)
        return inputs, answer_to(*inputs)

    def _by_layers(self, *inputs: Any) -> Any:
        """Run the module's own forward with the graph's attention."""
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
        """Return the state for copies, which make the graph again."""
        kept = {name: vars(self)[name] for name in ("module", "names", "_has_fast_floats")}
        return {**kept, "is_paused": False, "_examinations": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ |= state
        self._own = type(self.module).forward.__wrapped__  # type: ignore[attr-defined]  # as `functools.wraps` calls it
        self._run = self._sources = None


def are_plain(inputs: tuple[Any, ...]) -> bool:
    """Return True for dense CPU tensors and numbers, while no mode, transform, trace or global hook is active."""
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
