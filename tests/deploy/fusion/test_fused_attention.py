"""Attention by the kernel within graphs, beside torch's."""

import copy
import pickle
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from nets import by_layers
from torch import Tensor, nn
from torch.nn import functional

import proxconnect as pc
from proxconnect import kernels
from proxconnect.deploy.fusion import layer_by_layer
from proxconnect.deploy.fusion.graph_modules import graph_forward

WIDTH, HEADS = 64, 2

pytestmark = pytest.mark.skipif(
    not (kernels.is_built() and kernels.has_float_kernels()), reason="this machine has no kernel of attention"
)


class Block(nn.Module):
    """Attention as in timm, with whatever else torch's function takes."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.options = options
        self.qkv, self.proj = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, _ = x.shape
        qkv = self.qkv(x).reshape(batch, tokens, 3, HEADS, WIDTH // HEADS).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.unbind(0)
        y = functional.scaled_dot_product_attention(q, k, v, **self.options)
        return x + self.proj(y.transpose(1, 2).reshape(batch, tokens, WIDTH))


class HeadsFirst(Block):
    """The heads are read before the queries, and a query again."""

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, _ = x.shape
        q, k, v = self.qkv(x).reshape(batch, tokens, 3, HEADS, WIDTH // HEADS).permute(2, 0, 3, 1, 4).unbind(0)
        y = functional.scaled_dot_product_attention(q, k, v)
        return self.proj(y.transpose(1, 2).flatten(2)) + (y.mean((1, 3)) + q.mean((1, 3))).unsqueeze(-1)


def packed(net: nn.Module, activations: str | None = None, **options: Any) -> tuple[nn.Module, nn.Module]:
    """The binary model and its packed form."""
    model = pc.binarize(net, "bnn++", activations, keep=()).eval().requires_grad_(False)
    return model, pc.pack(model, **options)


def attentions(model: Any) -> int:
    return sum(region.counts.get("attentions", 0) for region in model.packing.fusion.regions)


@pytest.mark.parametrize("tokens", [3, 16, 50])
@pytest.mark.parametrize("net", [Block, HeadsFirst])
@torch.no_grad()
def test_answers_as_the_model_does(net: type[Block], tokens: int) -> None:
    model, small = packed(nn.Sequential(net(), net()))
    x = torch.randn(2, tokens, WIDTH)
    assert attentions(small) == 2
    torch.testing.assert_close(small(x), model(x), rtol=1e-4, atol=1e-4)
    assert torch.equal(small(x), by_layers(small, x))


class AnyDimensions(Block):
    """Attention for any number of dimensions before the tokens; heads and queries change places by `swap`."""

    def __init__(self, swap: tuple[int, int] | None) -> None:
        super().__init__()
        self.swap = swap

    def forward(self, x: Tensor) -> Tensor:
        q = self.proj(x)
        q = q if self.swap is None else q.unflatten(-1, (HEADS, -1)).transpose(-3, -2)
        y = functional.scaled_dot_product_attention(q, q, q)
        y = y if self.swap is None else y.transpose(*self.swap)
        return self.proj(y.reshape(x.shape))


@pytest.mark.parametrize("shape", [(16, WIDTH), (2, 16, WIDTH), (2, 3, 16, WIDTH)])
@pytest.mark.parametrize("swap", [None, (-3, -2), (-2, -3), (-3, 2)])
@torch.no_grad()
def test_takes_other_numbers_of_dimensions(swap: tuple[int, int] | None, shape: tuple[int, ...]) -> None:
    """After four, with which the graph was compared with the layers."""
    model, small = packed(AnyDimensions(swap))
    assert attentions(small) == 1
    for x in (torch.randn(2, 16, WIDTH), torch.randn(shape)):
        torch.testing.assert_close(small(x), model(x), rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_takes_two_dimensions_first() -> None:
    _, small = packed(AnyDimensions(None))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        x = torch.randn(16, WIDTH)
        assert small(x).shape == x.shape


@pytest.mark.parametrize(("net", "is_of_rows"), [(Block, True), (HeadsFirst, False)])
def test_reads_the_rows_of_one_layer(net: type[Block], is_of_rows: bool) -> None:
    fused = graph_forward(packed(net())[1])
    assert fused is not None
    assert any(node.target == "unbind" for node in fused.work.graph.nodes) != is_of_rows


@torch.no_grad()
def test_gives_no_other_answer_than_the_layers_where_signs_follow() -> None:
    """The first answer is checked, and the proof holds, though signs might turn."""
    model, small = packed(nn.Sequential(Block(), Block(scale=0.5)), "poly", floats="fast")
    x = torch.randn(2, 50, WIDTH)
    assert attentions(small) == 2
    for _ in range(2):
        answer = small(x)
        assert torch.equal(answer, by_layers(small, x))
    again = pc.pack(model, floats="fast", example=x)
    proof: Any = again.packing.proof
    assert proof.fast == 2
    assert proof.fast_gap < 1e-5
    assert "2 attentions" in str(again.packing)


def test_is_torchs_where_signs_follow_unless_asked_for(tmp_path: Path) -> None:
    _, small = packed(Block(), "poly")
    pc.save(small, tmp_path / "model.safetensors")
    assert attentions(small) == 0
    assert attentions(pc.load(tmp_path / "model.safetensors", Block(), floats="fast")) == 1
    assert attentions(packed(Block(), floats="torch")[1]) == 0


@pytest.mark.parametrize(
    "options", [{"is_causal": True}, {"attn_mask": torch.zeros(20, 20)}, {"dropout_p": 0.5}, {"enable_gqa": True}]
)
def test_other_attention_is_left(options: dict[str, Any]) -> None:
    assert attentions(packed(Block(**options))[1]) == 0


@torch.no_grad()
def test_copies_run_the_same() -> None:
    _, small = packed(Block(), "poly", floats="fast")
    x = torch.randn(1, 40, WIDTH)
    for other in (copy.deepcopy(small), pickle.loads(pickle.dumps(small))):
        assert torch.equal(other(x), small(x))


def test_gradients_are_torchs() -> None:
    _, small = packed(Block())
    x = torch.randn(1, 40, WIDTH, requires_grad=True)
    with layer_by_layer(small):
        small(x).sum().backward()
    assert x.grad is not None
