"""A trace leaves nothing behind, whatever the forward keeps, counts or draws."""

import cProfile
import functools
import queue
import random
import threading
from collections import OrderedDict
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn

import proxconnect as pc
from proxconnect.deploy.fusion import layer_by_layer
from proxconnect.deploy.fusion.graph_modules import graph_forward

pytestmark = pytest.mark.skipif(not pc.kernels.is_built(), reason="the kernels were not built")

CACHE: dict[str, Any] = {}
SEEN: list[Any] = []
LAST: Any = None
COUNT = 0
LOCAL, QUEUE = threading.local(), queue.SimpleQueue[Any]()
X = torch.randn(4, 16, generator=torch.Generator().manual_seed(0))


class Keeping(nn.Module):
    """Keeps something in one of many places while it runs."""

    last: Any = None

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(16, 16)
        self.state = SimpleNamespace(last=None, seen=[], calls=0)
        self.dictionary: dict[str, Any] = {}
        self.register_buffer("mean", None)

    def forward(self, x: Tensor) -> Tensor:
        return self.kept(self.layer(x))

    def kept(self, x: Tensor) -> Tensor:
        raise NotImplementedError


class InGlobalDictionary(Keeping):
    def kept(self, x: Tensor) -> Tensor:
        if "mean" not in CACHE:
            CACHE["mean"] = x.mean()
        return x - CACHE["mean"]


class InGlobal(Keeping):
    def kept(self, x: Tensor) -> Tensor:
        global LAST
        LAST = x.mean() if LAST is None else LAST
        return x - LAST


class InNewGlobal(Keeping):
    def kept(self, x: Tensor) -> Tensor:
        global NEW
        NEW = x.mean()
        return x - NEW


class CountsInGlobal(Keeping):
    def kept(self, x: Tensor) -> Tensor:
        global COUNT
        COUNT += 1
        return x * 2


class InClass(Keeping):
    def kept(self, x: Tensor) -> Tensor:
        if type(self).last is None:
            type(self).last = x.mean()
        return x - type(self).last


class InObject(Keeping):
    def kept(self, x: Tensor) -> Tensor:
        if self.state.last is None:
            self.state.last = x.mean()
        return x - self.state.last


class CountsInObject(Keeping):
    def kept(self, x: Tensor) -> Tensor:
        self.state.calls += 1
        return x * 2


class InListOfObject(Keeping):
    def kept(self, x: Tensor) -> Tensor:
        self.state.seen.append((x.mean(),))
        return x * 2


class InDefault(Keeping):
    def kept(self, x: Tensor, cache: dict[str, Any] = {}) -> Tensor:  # noqa: B006  # the fault under test
        if "mean" not in cache:
            cache["mean"] = x.mean()
        return x - cache["mean"]


class InDictionary(Keeping):
    def kept(self, x: Tensor) -> Tensor:
        if "mean" not in self.dictionary:
            self.dictionary["mean"] = [x.mean()]
        return x - self.dictionary["mean"][0]


class InBuffer(Keeping):
    def kept(self, x: Tensor) -> Tensor:
        self.mean = torch.ones(3)
        self.register_buffer("other", torch.ones(3))
        return x - self.mean.sum()


class Hooks(Keeping):
    def kept(self, x: Tensor) -> Tensor:
        self.layer.register_forward_hook(lambda *call: None)
        return x * 2


@functools.cache
def mean_of(x: Tensor) -> Tensor:
    return x.mean()


class InFunctionCache(Keeping):
    def kept(self, x: Tensor) -> Tensor:
        return x - mean_of(x)


class InThread(Keeping):
    def kept(self, x: Tensor) -> Tensor:
        if not hasattr(LOCAL, "mean"):
            LOCAL.mean = x.mean()
        return x - LOCAL.mean


class Draws(Keeping):
    def kept(self, x: Tensor) -> Tensor:
        return x + torch.randn(16)


class Chooses(Keeping):
    def kept(self, x: Tensor) -> Tensor:
        return x if random.random() < 0.5 else -x  # no cryptography


KEEPING = [cls for cls in Keeping.__subclasses__() if cls not in (Draws, Chooses)]


def forget() -> None:
    global LAST, COUNT
    CACHE.clear(), SEEN.clear(), vars(LOCAL).clear(), mean_of.cache_clear()
    LAST, COUNT, Keeping.last, InClass.last = None, 0, None, None
    globals().pop("NEW", None)
    InDefault.kept.__defaults__[0].clear()


def state_of(model: Any) -> dict[str, Any]:
    """What the trace could have changed, as text."""
    held = {name: [*value] for name, value in vars(model).items() if isinstance(value, dict | set)}
    hooks = len(model.layer._forward_hooks)
    kept = repr((CACHE, LAST, COUNT, InClass.last, vars(LOCAL), InDefault.kept.__defaults__, "NEW" in globals()))
    return {"held": held, "hooks": hooks, "kept": kept, "state": repr(model.state), "cached": mean_of.cache_info()[3]}


@pytest.fixture(autouse=True)
def clean():
    forget()
    yield
    forget()


def binary(cls: type[Keeping]) -> Any:
    torch.manual_seed(0)
    return pc.binarize(cls(), "bnn++", "bnn", keep=()).eval().requires_grad_(False)


@pytest.mark.parametrize("cls", KEEPING)
def test_what_a_forward_keeps(cls):
    model = binary(cls)
    before = state_of(model)
    packed = pc.pack(model)
    assert state_of(model) == before
    assert {**state_of(packed), "held": 0} == {**before, "held": 0}
    has_graph = cls is InFunctionCache  # the cache is empty again
    assert [region.name for region in packed.packing.fusion.regions] == [""] * has_graph
    assert ("layer by layer: the model, since " in str(packed.packing)) is not has_graph
    answer = model(X)
    assert type(answer) is Tensor
    forget()
    torch.testing.assert_close(packed(X), answer)


@pytest.mark.parametrize("cls", [InObject, InGlobalDictionary])
def test_a_loaded_network_keeps_no_proxy(cls, tmp_path):
    model = binary(cls)
    pc.save(pc.pack(model), tmp_path / "net.safetensors")
    loaded = pc.load(tmp_path / "net.safetensors", cls())
    answer = loaded(X)
    forget()
    torch.testing.assert_close(answer, model(X))


@pytest.mark.parametrize("cls", [Draws, Chooses])
def test_random_numbers_are_drawn_in_each_call(cls):
    model = binary(cls)
    states = torch.get_rng_state(), random.getstate()
    packed = pc.pack(model)
    assert torch.equal(torch.get_rng_state(), states[0])
    assert random.getstate() == states[1]
    assert "since its forward draws random numbers" in str(packed.packing)
    assert len({packed(X)[0, 0].item() for _ in range(20)}) > 1


def test_an_inner_module_that_keeps_something_is_called():
    model = pc.pack(pc.binarize(nn.Sequential(nn.Linear(16, 16), InObject()), "bnn++", "bnn", keep=()).eval())
    assert graph_forward(model) is not None
    assert torch.equal(model(X), model(X))
    assert type(model[1].state.last) is Tensor


TICKS = 0
ASKED, DONE = threading.Event(), threading.Event()


def with_ticks(x: Tensor) -> Tensor:
    return x * TICKS


class WaitsForAThread(Keeping):
    def kept(self, x: Tensor) -> Tensor:
        ASKED.set()
        DONE.wait()
        return x * 2 if len(self.dictionary) < 99 else with_ticks(x)


def tick(part: nn.Module) -> None:
    global TICKS
    ASKED.wait()
    TICKS += 1
    part(X)
    DONE.set()


@pytest.mark.parametrize("part", [len, nn.ReLU()], ids=["apart", "calls modules"])
def test_changes_by_another_thread_are_its_own(part):
    """They are blamed on the forward only if the thread may work for it, since it calls modules meanwhile."""
    global TICKS
    TICKS = 0
    ASKED.clear(), DONE.clear()
    thread = threading.Thread(target=tick, args=(part,))
    thread.start()
    packing = str(pc.pack(binary(WaitsForAThread)).packing)
    thread.join()
    assert ("since its forward sets or changes the global TICKS" in packing) is (part is not len)
    assert (part is len) == TICKS


def test_a_profiler_goes_on():
    with cProfile.Profile() as profiler:
        packed = pc.pack(binary(AsksRegistry))
        packed(X)
    assert graph_forward(packed) is not None
    assert {"pack", "trace"} <= {entry.code.co_name for entry in profiler.getstats() if hasattr(entry.code, "co_name")}


def test_hooks_see_no_proxy():
    model = binary(InGlobal)
    inner = nn.Sequential(model.layer)
    inner.register_forward_hook(lambda module, args, output: SEEN.append(output))
    packed = pc.pack(nn.Sequential(inner, nn.ReLU()))
    assert not SEEN
    packed(X)
    assert [type(seen) for seen in SEEN] == [Tensor]
    packed[0]._forward_hooks.clear()
    with layer_by_layer(packed):
        answer = packed(X)
    assert torch.equal(packed(X), answer)


def test_a_place_that_is_not_known_is_given_up():
    class InQueue(Keeping):
        def kept(self, x: Tensor) -> Tensor:
            QUEUE.put(x.mean())
            return x * 2

    packed = pc.pack(binary(InQueue))
    assert "since its forward keeps what it computes" in str(packed.packing)
    assert isinstance(QUEUE.get_nowait(), fx.Proxy)


def test_a_value_that_cannot_be_watched_is_given_up():
    class OfBytes(Keeping):
        def kept(self, x: Tensor) -> Tensor:
            return x * self.gains[0]

    model = binary(OfBytes)
    model.gains = bytearray([1, 2])
    packed = pc.pack(model)
    assert "since it may read self.gains, a bytearray, and changes of that cannot be seen" in str(packed.packing)
    packed.gains[0] = 3
    assert torch.equal(packed(X), packed.layer(X) * 3)


class Registry(OrderedDict[str, Any]):
    """Makes what it gives, as transformers' table of activations does."""

    def __getitem__(self, key: str) -> nn.Module:
        made: nn.Module = super().__getitem__(key)()
        return made


REGISTRY = Registry(relu=nn.ReLU, tanh=nn.Tanh)


class AsksRegistry(Keeping):
    def kept(self, x: Tensor) -> Tensor:
        return x.relu() if "relu" in REGISTRY else x.tanh()


def test_a_registry_that_makes_what_it_gives_is_left_alone() -> None:
    packed = pc.pack(binary(AsksRegistry))
    assert {key: dict.__getitem__(REGISTRY, key) for key in dict.keys(REGISTRY)} == {"relu": nn.ReLU, "tanh": nn.Tanh}
    assert [*REGISTRY] == ["relu", "tanh"]
    assert graph_forward(packed) is not None
