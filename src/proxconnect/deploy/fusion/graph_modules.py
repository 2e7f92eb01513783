"""Make a packed model, or parts of it, run fused graphs, if these answer as the modules do."""

import functools
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from typing import Any, Literal, Self, get_args

import torch
from torch import Tensor, fx, nn
from torch.autograd import forward_ad
from torch.nn.modules.module import _global_forward_hooks, _global_forward_pre_hooks
from torch.utils._python_dispatch import is_in_torch_dispatch_mode

from proxconnect._support.example import tensors_in
from proxconnect._support.model_context import model_context
from proxconnect.deploy.fusion.attention import FastAttention
from proxconnect.deploy.fusion.binary_products import STEPS, BinaryProduct
from proxconnect.deploy.fusion.calls import Kind, sort
from proxconnect.deploy.fusion.closeness import gap
from proxconnect.deploy.fusion.images import are_apart, in_parts, with_channels_last
from proxconnect.deploy.fusion.operation import Rewriting
from proxconnect.deploy.fusion.passes import rewrite
from proxconnect.deploy.fusion.segments import Examination, Segments
from proxconnect.deploy.fusion.sizes import UnforeseenSizesError
from proxconnect.deploy.fusion.sources import Sources
from proxconnect.deploy.fusion.trace import UntraceableError, one_at_a_time, required_parameters, trace
from proxconnect.deploy.packed import PackedLayer
from proxconnect.kernels.library import ADVICE, NOT_BUILT, ON_TORCH, is_built

Floats = Literal["torch", "fast"]
"""How graphs compute float layers: by torch, or by kernels that are faster and about as exact."""


@dataclass(frozen=True)
class Region:
    """The record of one module that runs as a fused graph: its name ("" for the whole model), and what was fused."""

    name: str
    counts: Mapping[str, int]
    """The number of fused operations by `Operation.name`, of epilogue steps, and of binary layers that give bits."""

    def __str__(self) -> str:
        counts = Counter(self.counts)
        what = [f"{counts.pop(name, 0)} {name}" for name in (BinaryProduct.name, STEPS)]
        rest = [f"{count} {name}" for name, count in counts.items() if count]
        return f"{self.name or 'the model'}: {', '.join([' with '.join(what), *rest])}"


@dataclass(frozen=True)
class Fusion:
    """The result of `fuse`: the modules that run as fused graphs, and the reasons why others cannot."""

    regions: tuple[Region, ...]
    reasons: dict[str, str]
    """Why a module cannot run as one graph, by the name of the module, which is empty for the whole model."""

    def __str__(self) -> str:
        lines = [f"by graph: {region}" for region in self.regions]
        lines += [f"layer by layer: {name or 'the model'}, since {reason}" for name, reason in self.reasons.items()]
        return "\n".join(lines) or "layer by layer"


def fuse(model: nn.Module, floats: Floats | None = None) -> Fusion:
    """Make a packed model, or the parts of it that can be traced, run as fused graphs, in place.

    The parameters do not change, and the model saves as before. A graph runs for plain CPU inputs in `eval()` without
    gradients, else the layers run one by one. If `floats` is "fast", kernels may compute float layers; if it is
    "torch", torch does. None is "fast" for models without binary inputs, else "torch". ValueError for other values.
    """
    if floats not in (None, *get_args(Floats)):
        raise ValueError(f"floats must be 'torch' or 'fast'; got {floats!r}")
    layers = (module for module in model.modules() if isinstance(module, PackedLayer))
    has_fast_floats = floats == "fast" or (floats is None and not any(layer.has_binary_input for layer in layers))
    if not is_built():
        return Fusion((), {"": f"{NOT_BUILT.upper()}: {ON_TORCH}. {ADVICE}"})
    regions: list[Region] = []
    reasons: dict[str, str] = {}
    _visit("", model, regions, reasons, has_fast_floats)
    return Fusion(tuple(regions), reasons)


def _visit(name: str, module: nn.Module, regions: list[Region], reasons: dict[str, str], has_fast_floats: bool) -> None:
    """Fuse a module with packed layers, or its children if it cannot be traced; add the results to the collections."""
    if isinstance(module, PackedLayer) or not any(isinstance(m, PackedLayer) for m in module.modules()):
        return
    try:
        if "forward" in vars(module):
            raise UntraceableError("its forward was replaced")
        own: Any = type(module).forward
        own = own.__wrapped__ if isinstance(module, _RunsGraph) else own
        fused = GraphForward(module, own, has_fast_floats=has_fast_floats)
    except UntraceableError as error:
        reasons[name] = str(error)
        for child_name, child in module.named_children():
            _visit(f"{name}.{child_name}" if name else child_name, child, regions, reasons, has_fast_floats)
        return
    if fused.work.counts:
        cls: Any = type(module)
        module.__class__ = cls if issubclass(cls, _RunsGraph) else _class_that_runs_graphs(cls)
        vars(module)["_graph_forward"] = fused
        regions.append(Region(name, dict(fused.work.counts)))
    for target in dict.fromkeys(str(node.target) for node in fused.work.traced.nodes if node.op == "call_module"):
        inner = f"{name}.{target}" if name else target
        _visit(inner, module.get_submodule(target), regions, reasons, has_fast_floats)


def graph_forward(module: nn.Module) -> "GraphForward | None":
    """Return the `GraphForward` that runs the fused graph of a module; None if the module has no graph itself."""
    fused: GraphForward | None = vars(module).get("_graph_forward")
    # A shallow copy holds the graph of the module that was copied.
    return fused if fused is not None and fused.module is module else None


@model_context
def layer_by_layer(model: nn.Module) -> Iterator[None]:
    """In this context, run the layers of `model` and of its submodules instead of their fused graphs."""
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

    def train(self, mode: bool = True) -> Self:
        """Set the mode as torch does, and let the graph compare large tensors too before it runs again."""
        if (fused := graph_forward(self)) is not None:
            fused.require_comparison()
        return super().train(mode)

    def __reduce_ex__(self, protocol: Any) -> Any:
        return _blank, (type(self).__bases__[1],), self.__getstate__()


@functools.cache
def _class_that_runs_graphs(base: Any) -> Any:
    """Return a subclass of `base` whose forward runs the fused graph, or that of `base` under torch.compile."""

    @functools.wraps(base.forward)
    def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
        if torch.compiler.is_compiling():
            return base.forward(self, *args, **kwargs)
        fused = graph_forward(self)
        if fused is None:  # a shallow copy, or a slice of a container, which its class makes
            return base.forward(self, *args, **kwargs)
        return fused(*args, **kwargs)

    names = {name: getattr(base, name) for name in ("__module__", "__qualname__", "__doc__")}
    return type(base.__name__, (_RunsGraph, base), {**names, "forward": forward})


def _blank(base: Any) -> Any:
    """Return an instance without state of the subclass of `base`, for unpickling."""
    cls = _class_that_runs_graphs(base)
    return cls.__new__(cls)


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
    traced. `has_fast_floats` lets kernels replace float operations of torch.

    The graph is of the calls that give exactly the parameters without defaults. Other calls get a `GraphForward` for
    each `Kind`, made when it is first seen. Conditions on sizes are assumed, learned from the first inputs, and checked
    in each run. If they differ later, the layers run.
    """

    work: Rewriting
    _run: Callable[..., Any] | None
    _sources: Sources | None

    def __init__(self, module: nn.Module, own: Callable[..., Any], *, has_fast_floats: bool = False) -> None:
        self.module, self._own, self._has_fast_floats = module, own, has_fast_floats
        self.names = required_parameters(own)
        if not self.names:
            raise UntraceableError("its forward takes no argument without a default")
        self.is_paused = False
        self._changes = 0
        self._examinations: list[Examination] | None = None
        self._decisions: list[Any] = []
        self._kinds: dict[Kind, GraphForward | None] = {}
        self._has_fused_children = False
        self._fuse()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the graph, or the module's own forward if the graph cannot or must not run for this call."""
        inputs = self._inputs(args, kwargs)
        if inputs is None:
            return self._of_other_kind(args, kwargs)
        if not inputs or not are_plain(inputs):
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
        assert self._run is not None
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
        for other in filter(None, self._kinds.values()):
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
        graphs = [self, *filter(None, self._kinds.values())]
        runs = [graph._run for graph in graphs]
        try:
            for graph, run in zip(graphs, runs, strict=True):
                graph._run = run and runner(run.__self__)  # type: ignore[attr-defined]  # it is a bound method
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
        self._segments = Segments(self.module, self.work, is_apart=self._are_apart)
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

    def _inputs(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...] | None:
        """Return the arguments in order if exactly the parameters without defaults are given, else None."""
        if len(args) + len(kwargs) != len(self.names):
            return None
        rest = self.names[len(args) :]
        return (*args, *(kwargs[name] for name in rest)) if all(name in kwargs for name in rest) else None

    def _of_other_kind(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run the graph of a call with other arguments, or the module's own forward if it gets no graph."""
        kind, inputs = sort(self._own, args, kwargs) or (None, ())
        if self._is_given_up or not are_plain(inputs):
            return self.own(*args, **kwargs)
        if self.is_paused:
            return self._by_layers(*args, **kwargs)
        if kind is not None and kind not in self._kinds and len(self._kinds) < _MOST_KINDS:
            self._kinds[kind] = None
            with suppress(UntraceableError):
                self._kinds[kind] = GraphForward(self.module, kind.of(self._own), has_fast_floats=self._has_fast_floats)
        other = None if kind is None else self._kinds.get(kind)
        if other is None:
            self._fuse_children()
            return self.own(*args, **kwargs)
        other._examinations = self._examinations
        return other(*inputs)

    def _fuse_children(self) -> None:
        """Fuse the children, once, for calls of which the module itself gets no graph."""
        if not self._has_fused_children:
            self._has_fused_children = True
            for child in self.module.children():
                _visit("", child, [], {}, self._has_fast_floats)

    def _fits(self, inputs: tuple[Any, ...]) -> bool:
        """Make the graph again until it fits the sizes of the first inputs; False if it is given up instead."""
        for _ in range(_MOST_LESSONS if self._decisions else 0):
            try:
                self._run(*inputs)  # type: ignore[misc]  # it was made
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
        if self._decisions:
            self._give_up("it decides too often by sizes")
        return not self._is_given_up

    def _checked(self, inputs: tuple[Any, ...]) -> Any:
        """Return the graph's output after comparing it with the layers', or the module's own if the graph is wrong."""
        _, expected = self._as_the_graph(inputs, self._by_layers)
        try:
            answer = self._run(*inputs)  # type: ignore[misc]  # it was made
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
            return self._segments.examined(inputs, laid_out, answer)

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
        return {name: vars(self)[name] for name in ("module", "names", "_has_fast_floats", "_decisions")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ |= state
        self._own = type(self.module).forward.__wrapped__  # type: ignore[attr-defined]  # as `functools.wraps` calls it
        self._run = self._sources = self._examinations = None
        self.is_paused = self._has_fused_children = self._is_given_up = False
        self._changes, self._kinds = 0, {}


def are_plain(inputs: tuple[Any, ...]) -> bool:
    """Return True if a graph may run on these inputs: numbers, None and plain CPU tensors that record no gradient.

    A tensor that requires one is plain while gradients are off. False under CPU autocast, forward-mode differentiation,
    a torch function or dispatch mode, a transform or tracing, and while a global forward hook is registered.
    """
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
