"""Which forwards are graphs."""

import itertools
import operator
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn

from proxconnect.deploy.fusion.trace import UntraceableError, trace
from proxconnect.deploy.fusion.writes import separate_writes


class WithDefault(nn.Module):
    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        return x if y is None else x + y


class Slices(nn.Module):
    """Calls a module that is new each time."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.ReLU(), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        return self.body[:1](x)


class Loose(nn.Module):
    def forward(self, x: Tensor, *others: Tensor) -> Tensor:
        return x


class Deciding(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x if x.sum() > 0 else -x


class Around(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x).relu()


class AsksForStrides(nn.Module):
    def forward(self, x: Tensor) -> Any:
        return x.stride()


class Writes(nn.Module):
    """`before` reads x, then an operation writes into it, then `after` reads the old name."""

    def __init__(self, *, before: bool, after: bool, through_view: bool = False) -> None:
        super().__init__()
        self.before, self.after, self.through_view = before, after, through_view

    def forward(self, x: Tensor) -> Tensor:
        x = x * 2
        first = x * 3 if self.before else 0
        y = torch.relu_(x.view(-1) if self.through_view else x)
        return y + first + (x.sum() if self.after else 0)


class WritesIntoItsInput(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.relu_()


def graph_of(module: nn.Module):
    return trace(module, type(module).forward).graph


def copies(module: nn.Module) -> int:
    graph = graph_of(module)
    separate_writes(graph, dict(module.named_modules()))
    return sum(node.target == "clone" for node in graph.nodes)


def test_parameters_with_defaults_keep_them():
    placeholders = [node.name for node in graph_of(WithDefault()).nodes if node.op == "placeholder"]
    assert placeholders == ["x"]


@pytest.mark.parametrize(
    ("module", "reason"),
    [
        (Loose(), r"takes \*others"),
        (Deciding(), "TraceError"),
        (AsksForStrides(), r"asks for stride\(\)"),
        (Slices(), "not installed as a submodule"),
    ],
)
def test_what_is_no_graph_says_why(module, reason):
    with pytest.raises(UntraceableError, match=reason):
        graph_of(module)


@pytest.mark.parametrize("inner", [Loose(), Deciding()])
def test_a_module_that_is_no_graph_is_a_node_of_one(inner):
    if isinstance(inner, Loose):  # called without options it is a graph
        assert [n.op for n in graph_of(Around(inner)).nodes] == ["placeholder", "call_method", "output"]
    else:
        assert [n.target for n in graph_of(Around(inner)).nodes if n.op == "call_module"] == ["inner"]


@pytest.mark.parametrize("through_view", [False, True])
def test_what_is_read_before_it_is_written_into_is_copied(through_view):
    assert copies(Writes(before=True, after=False, through_view=through_view)) == 1
    assert copies(Writes(before=False, after=False, through_view=through_view)) == 0


@pytest.mark.parametrize("through_view", [False, True])
def test_what_is_read_after_it_was_written_into_is_no_graph(through_view):
    with pytest.raises(UntraceableError, match="written into"):
        copies(Writes(before=False, after=True, through_view=through_view))


def test_a_module_that_writes_into_its_input_is_no_graph():
    with pytest.raises(UntraceableError, match="not its own"):
        copies(WritesIntoItsInput())


class Remembers(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        self.last = x * 2
        return self.last


class Collects(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(x)
        return x


class Counts(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return x


@pytest.mark.parametrize("inner", [Remembers(), Collects(), Counts()])
def test_a_module_that_remembers_is_called_and_keeps_no_proxy(inner):
    assert [n.target for n in graph_of(Around(inner)).nodes if n.op == "call_module"] == ["inner"]
    assert "last" not in vars(inner)
    assert not getattr(inner, "seen", [])
    assert not getattr(inner, "calls", torch.zeros(()))
    with pytest.raises(UntraceableError, match=r"its forward sets|cannot assign"):
        graph_of(inner)


class Scaled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("scale", torch.ones(3))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale.exp()


def test_what_is_made_of_a_buffer_is_made_in_each_run():
    assert [n.target for n in graph_of(Scaled()).nodes if n.op == "get_attr"] == ["scale"]


class Shared(nn.Module):
    """Several modules that decide by values, and a parameter that all of them take."""

    def __init__(self, calls: Iterator[int]) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.ones(3))

        class Part(Deciding):
            def forward(part, x: Tensor) -> Tensor:  # noqa: N805  # the outer one is self
                next(calls)
                return super().forward(x * part.factor)

        self.parts = nn.ModuleList(Part() for _ in range(5))
        for part in self.parts:
            part.factor = self.factor

    def forward(self, x: Tensor) -> Tensor:
        for part in self.parts:
            x = part(x)
        return x * self.factor


def test_what_a_module_began_is_forgotten_where_it_is_no_graph():
    calls = itertools.count()
    model = Shared(calls)
    graph = graph_of(model)
    graph.lint()
    assert next(calls) == 5  # each once
    assert [n.target for n in graph.nodes if n.op == "call_module"] == [f"parts.{i}" for i in range(5)]
    assert len([n for n in graph.nodes if n.op == "get_attr"]) == 1
    x = torch.randn(2, 3)
    assert torch.equal(fx.GraphModule(model, graph)(x), model(x))


def test_other_threads_run_their_modules_meanwhile():
    other, entered, answers = nn.Linear(3, 2), threading.Event(), []

    class Slow(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            entered.set()
            thread.join()
            return x

    def work() -> None:
        entered.wait()
        answers.append(other(torch.ones(1, 3)))

    thread = threading.Thread(target=work)
    thread.start()
    graph_of(Slow())
    assert torch.equal(answers[0], other(torch.ones(1, 3)))


def aliased(x: Tensor, write: Any) -> Tensor:
    """Something is written into what may be the memory of a value that is read again."""
    value = x.relu()
    write(value)
    return value.exp()


def adds_to(view: Any) -> Any:
    def write(value: Tensor) -> None:
        part = view(value)
        part += 1

    return write


@pytest.mark.parametrize(
    "view",
    [
        nn.Dropout(), nn.Identity(), nn.Flatten(2), lambda x: x, lambda x: x.ravel(),
        lambda x: x.detach(), lambda x: x.unfold(2, 2, 2), lambda x: x.swapaxes(1, 2), lambda x: x.chunk(2)[0],
        lambda x: torch.broadcast_to(x, (2, 3, 4, 4)), lambda x: torch.nn.functional.dropout(x, training=False),
    ],
)  # fmt: skip
def test_additions_in_place_write_into_what_others_hold(view):
    class Writes(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.view = view

        def forward(self, x: Tensor) -> Tensor:
            return aliased(x, adds_to(self.view))

    with pytest.raises(UntraceableError, match="written into"):
        copies(Writes().eval())


@pytest.mark.parametrize("write", ["iadd", "isub", "imul", "itruediv", "ifloordiv", "imod", "ipow"])
def test_every_augmented_assignment_is_a_write(write):
    class Writes(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return aliased(x, lambda value: getattr(operator, write)(value, 2))

    with pytest.raises(UntraceableError, match="written into"):
        copies(Writes().eval())


@pytest.mark.parametrize("write", [lambda x: x.mT.add_(1), lambda x: x.data.add_(1)])
def test_methods_of_attributes_write_too(write):
    class Writes(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return aliased(x, write)

    with pytest.raises(UntraceableError, match="written into"):
        copies(Writes())


def test_numbers_are_not_written_into():
    class Counts(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            size = x.shape[0]
            size += 1
            size *= x.size(1)
            return x * size * x.shape[0]

    assert copies(Counts()) == 0


def test_constants_of_an_earlier_trace_are_dropped():
    class Adds(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x + torch.ones(3)

    module = Adds()
    for _ in range(3):
        graph_of(module)
    assert [name for name in vars(module) if name.startswith("_tensor")] == ["_tensor_constant0"]


def test_unpacking_leaves_no_cycle_to_look_for(monkeypatch):
    class Unpacks(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            rows, columns = x.shape
            left, (middle, right) = x.view(columns, rows).mT.contiguous().split(2)[0], x.unbind()
            return left + middle.sum() * right.sum()

    monkeypatch.setattr("gc.collect", lambda: pytest.fail("it searches all objects of the process"))
    graph = trace(Unpacks(), Unpacks.forward).graph
    x = torch.randn(2, 3)
    assert torch.equal(fx.GraphModule(nn.Module(), graph)(x), Unpacks()(x))


def test_what_is_no_unpacking_cannot_be_traced():
    class Starred(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            first, *_ = x.unbind()
            return first

    with pytest.raises(UntraceableError, match="iterated"):
        trace(Starred(), Starred.forward)
