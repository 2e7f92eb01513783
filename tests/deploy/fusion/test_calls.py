"""Graphs of calls with optional arguments, and of forwards that decide by sizes."""

import copy
import pickle
import warnings
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn
from torch.nn.functional import scaled_dot_product_attention

import proxconnect as pc
from proxconnect.deploy.fusion import layer_by_layer
from proxconnect.deploy.fusion.graph_forward import _MOST_KINDS
from proxconnect.deploy.fusion.graph_modules import graph_forward

pytestmark = pytest.mark.skipif(not pc.kernels.is_built(), reason="the kernels were not built")


@dataclass
class Output(OrderedDict[str, Any]):
    """What a forward returns, as the outputs of transformers are."""

    hidden: Tensor
    cache: Any = None

    def __post_init__(self) -> None:
        self["hidden"] = self.hidden


class Attention(nn.Module):
    """As BERT's in transformers."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(32, 32) for _ in range(3))

    def forward(self, x: Tensor, mask: Tensor | None = None, **options: Any) -> Tensor:
        sizes = x.shape[:-1]
        parts = (part(x).view(*sizes, -1, 16).transpose(-3, -2) for part in (self.query, self.key, self.value))
        causal = x.shape[-2] > 1 and mask is None and options.get("causal", False)
        heads = scaled_dot_product_attention(*parts, attn_mask=mask, is_causal=causal)
        return heads.transpose(-3, -2).reshape(*sizes, -1)


class Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention, self.up, self.down = Attention(), nn.Linear(32, 48), nn.Linear(48, 32)
        self.norm, self.gain = nn.LayerNorm(32), 1.0

    def forward(self, x: Tensor, mask: Tensor | None = None, *, factor: Any = None, **options: Any) -> Output:
        x = self.norm(x + self.attention(x, mask, **options))
        x = x + self.down(torch.relu(self.up(x)))
        return Output(x if factor is None else x * factor * self.gain)


@pytest.fixture
def model() -> Any:
    torch.manual_seed(0)
    packed = pc.pack(pc.binarize(Encoder(), "bnn++", None, keep=()).eval().requires_grad_(False))
    assert [region.name for region in packed.packing.fusion.regions] == [""]
    return packed


def tokens(*shape: int) -> Tensor:
    return torch.randn(*shape, 32, generator=torch.Generator().manual_seed(1))


X = tokens(2, 9)
MASK = torch.ones(2, 1, 9, 9, dtype=torch.bool).tril()


def is_by_graph(model: Any, *args: Any, **kwargs: Any) -> bool:
    """Compare two calls with the layers, and return True if a graph computed the second answer."""
    finished: list[bool] = []

    def counted(graph: fx.GraphModule) -> Callable[..., Any]:
        def run(*inputs: Any) -> Any:
            answer = graph(*inputs)
            finished.append(True)
            return answer

        return run

    with layer_by_layer(model):
        expected = model(*args, **kwargs)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        answers = [model(*args, **kwargs)]
        with graph_forward(model).run_by(counted):
            answers.append(model(*args, **kwargs))
    for answer in answers:
        assert type(answer) is type(expected) is Output
        torch.testing.assert_close(answer.hidden, expected.hidden, rtol=1e-4, atol=1e-5)
    return bool(finished)


CALLS: dict[str, tuple[tuple[Any, ...], dict[str, Any]]] = {
    "none": ((X,), {}),
    "defaults": ((X, None), {"factor": None}),
    "a mask": ((X, MASK), {}),
    "a mask by name": ((), {"mask": MASK, "x": X}),
    "a number": ((X,), {"factor": 2}),
    "a tensor": ((X,), {"factor": torch.full((32,), 3.0)}),
    "an unknown option": ((X,), {"unread": "text"}),
    "causal": ((X,), {"causal": True}),
    "not causal": ((X,), {"causal": False}),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_call_has_a_graph_for_its_arguments(model, call):
    args, kwargs = call
    assert is_by_graph(model, *args, **kwargs)
    assert is_by_graph(model, X)
    assert is_by_graph(model, *args, **kwargs)


def test_constants_of_other_values_or_types_have_other_graphs(model):
    for factor in (1, True, 1.5, 2.0):
        assert is_by_graph(model, X, factor=factor)
    assert len(graph_forward(model)._by_kind) == _MOST_KINDS == 4
    assert not is_by_graph(model, X, factor=4)
    assert is_by_graph(model, X, factor=2.0)


def test_other_objects_run_layer_by_layer_but_for_the_children(model):
    assert not is_by_graph(model, X, unread=[1.0])
    assert graph_forward(model.attention) is not None
    with pytest.raises(TypeError, match="multiple values"):
        model(X, x=X)


def test_graphs_of_all_calls_see_changes(model):
    for change in (lambda: setattr(model, "gain", 3.0), lambda: model.norm.bias.data.add_(1)):
        assert is_by_graph(model, X, MASK, factor=2.0)
        before = model(X, MASK, factor=2.0).hidden
        change()
        assert is_by_graph(model, X, MASK, factor=2.0)
        assert not torch.equal(model(X, MASK, factor=2.0).hidden, before)


def test_large_tensors_are_compared_after_training_in_graphs_of_all_calls():
    torch.manual_seed(0)
    encoder = Encoder()
    encoder.norm = nn.Sequential(nn.LayerNorm(32), nn.Linear(32, 5000), nn.LayerNorm(5000), nn.Linear(5000, 32))
    model = pc.pack(pc.binarize(encoder, "bnn++", None, keep=()).eval().requires_grad_(False))
    assert is_by_graph(model, X, MASK)
    before = model(X, MASK).hidden
    model.norm[2].bias.data.add_(1)
    model.train().eval()
    assert is_by_graph(model, X, MASK)
    assert not torch.equal(model(X, MASK).hidden, before)


def test_what_keeps_a_graph_from_running_keeps_all(model):
    assert is_by_graph(model, X, MASK)
    with torch.autocast("cpu", torch.bfloat16):
        assert not is_by_graph(model, X, MASK)
    assert not is_by_graph(model, X.clone().requires_grad_(), MASK)
    assert not is_by_graph(model.train(), X, MASK)
    assert is_by_graph(model.eval(), X, MASK)
    hook = model.up.register_forward_hook(lambda *call: None)
    assert not is_by_graph(model, X, MASK)
    hook.remove()
    assert is_by_graph(model, X, MASK)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_copies_make_their_own(model, copied):
    assert is_by_graph(model, X, MASK)
    twin = copied(model)
    twin.gain = 5.0
    assert not graph_forward(twin)._by_kind
    assert is_by_graph(twin, X, MASK, factor=2.0)
    assert not torch.equal(twin(X, factor=2.0).hidden, model(X, factor=2.0).hidden)


def test_each_operation_of_a_call_is_proved():
    torch.manual_seed(0)
    model = pc.binarize(Encoder(), "bnn++", None, keep=()).eval().requires_grad_(False)
    proof = pc.pack(model, example={"x": X, "mask": MASK}).packing.proof
    assert proof.operations == 5
    assert proof.operations_gap < 1e-4


def test_other_sizes_run_layer_by_layer(model):
    assert is_by_graph(model, X)
    assert is_by_graph(model, tokens(3, 5))
    assert not is_by_graph(model, tokens(3, 1))
    assert not is_by_graph(model, tokens(2, 4, 5))
    assert not is_by_graph(model, tokens(7))
    assert is_by_graph(model, X)


class Reshaping(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.gain = nn.Linear(32, 32), nn.Linear(32, 32), 1.0

    def forward(self, x: Tensor, factor: int = 1) -> Output:
        heads = torch.relu(self.first(x)).reshape(*x.shape[:-1], -1, 16)
        heads = heads.flip(-3) * factor if x.shape[-2] > 1 else -heads
        x = self.second(heads.reshape(*x.shape[:-1], x.shape[-1]))
        return Output(x * self.gain if len(x.shape) == 3 else x + self.gain)


@pytest.mark.parametrize("shape", [(3, 1), (2, 4, 5), (2, 2, 4, 1), (7,)])
def test_the_first_sizes_are_learned(shape):
    torch.manual_seed(0)
    model = pc.pack(pc.binarize(Reshaping(), "bnn++", None, keep=()).eval().requires_grad_(False))
    assert is_by_graph(model, tokens(*shape))
    assert is_by_graph(model, tokens(*shape), factor=2)
    assert not is_by_graph(model, X)
    model.gain = 2.0
    assert is_by_graph(model, tokens(*shape), factor=2)


class Deciding(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(32, 32)

    def forward(self, x: Tensor) -> Output:
        x = torch.relu(self.layer(x))
        for size in range(1, 20):
            if x.shape[1] == size:
                x = x * size
        return Output(x)


def test_a_forward_that_decides_too_often_runs_layer_by_layer():
    model = pc.pack(pc.binarize(Deciding(), "bnn++", None, keep=()).eval().requires_grad_(False))
    with pytest.warns(UserWarning, match="decides too often by sizes"):
        model(X)
    assert not is_by_graph(model, X)


def test_code_that_did_not_run_is_not_watched_until_it_does():
    class Optional(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.is_scaled, self.gain = nn.Linear(32, 32), False, 2.0

        def forward(self, x: Tensor) -> Output:
            return Output(self.scaled(torch.relu(self.layer(x))) if self.is_scaled else torch.relu(self.layer(x)))

        def scaled(self, x: Tensor) -> Tensor:
            return x * self.gain

    model = pc.pack(pc.binarize(Optional(), "bnn++", None, keep=()).eval().requires_grad_(False))
    assert is_by_graph(model, X)
    graph = graph_forward(model)._run
    model.gain = 3.0
    assert is_by_graph(model, X)
    assert graph_forward(model)._run is graph
    model.is_scaled = True
    assert is_by_graph(model, X)
    model.gain = 4.0
    assert is_by_graph(model, X)
    assert graph_forward(model)._run is not graph
