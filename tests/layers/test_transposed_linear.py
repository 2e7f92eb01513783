"""The binary form of transformers' `Conv1D` against that layer, alone and in GPT-2."""

import copy
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import GPT2Config, GPT2LMHeadModel
from transformers.pytorch_utils import Conv1D

import proxconnect as pc
from proxconnect import PAIRS
from proxconnect.layers import BinaryLinear, BinaryTransposedLinear
from shipping import assert_ships

IN, OUT = 5, 3


def plain(dtype: torch.dtype = torch.float64) -> Conv1D:
    layer = Conv1D(OUT, IN).to(dtype)
    nn.init.normal_(layer.weight)
    nn.init.normal_(layer.bias)
    return layer


def twin_weight(latent: Tensor, name: str, mu: float, hard: bool) -> Tensor:
    """α·F(w*/ᾱ) with the gradient (α/ᾱ)·B, one column, which is one output, after the other."""
    columns, pair = [], PAIRS[name]
    for column in latent.unbind(1):
        values = column.detach()
        magnitude = values.abs().mean()
        x = values / magnitude
        f = torch.where(values < 0, -1.0, 1.0).double() if hard else pair.forward(x, mu)
        alpha = (values * f).sum() / (f * f).sum()
        columns.append(alpha * f + alpha / magnitude * pair.backward(x, mu) * (column - values))
    return torch.stack(columns, 1)


@pytest.mark.covering(together=("name training", "sizes training"))
@pytest.mark.parametrize("name", [name for name in PAIRS if name != "fp"])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("sizes", [(), (4,), (2, 4), (2, 0)])
def test_it_is_conv1d_on_the_twin_s_weight(name: str, training: bool, sizes: tuple[int, ...]) -> None:
    layer = plain()
    binary = BinaryTransposedLinear.convert(copy.deepcopy(layer), weights=name).train(training)
    latent = layer.weight.detach().clone().requires_grad_()
    weight = twin_weight(latent, name, float(binary.weight_quantizer.mu), not training)
    x = torch.randn(*sizes, IN, dtype=torch.float64, requires_grad=True)
    ours, theirs = binary(x), torch.func.functional_call(layer, {"weight": weight}, (x,))
    assert ours.shape == theirs.shape
    assert torch.allclose(ours, theirs, rtol=1e-12, atol=1e-12)
    g = torch.randn_like(ours)
    grads = torch.autograd.grad(ours, [binary.latent, x], g), torch.autograd.grad(theirs, [latent, x], g)
    assert all(torch.allclose(a, b, rtol=1e-12, atol=1e-12) for a, b in zip(*grads, strict=True))


@pytest.mark.covering
@pytest.mark.parametrize("activations", [None, "bnn"])
@pytest.mark.parametrize("scale", ["channel", "tensor", "learned", None])
@pytest.mark.parametrize("training", [True, False])
def test_it_is_the_linear_layer_of_the_transposed_weight(activations: Any, scale: Any, training: bool) -> None:
    layer, linear = plain(), nn.Linear(IN, OUT, dtype=torch.float64)
    linear.load_state_dict({"weight": layer.weight.detach().T, "bias": layer.bias.detach()})
    options: dict[str, Any] = {"activations": activations, "scale": scale}
    ours = BinaryTransposedLinear.convert(layer, **options).train(training)
    theirs = BinaryLinear.convert(linear, **options).train(training)
    x = torch.randn(4, IN, dtype=torch.float64)
    assert torch.allclose(ours.weight, theirs.weight.T, rtol=1e-12, atol=1e-14)
    assert torch.allclose(ours(x), theirs(x), rtol=1e-12, atol=1e-12)


def test_float_checkpoints_load_and_hard_ones_fit_the_float_layer() -> None:
    layer = plain(torch.float32)
    binary = BinaryTransposedLinear.convert(plain(torch.float32))
    binary.load_state_dict(layer.state_dict(), strict=True)
    assert torch.equal(binary.latent, layer.weight)
    layer.load_state_dict(pc.hard_state_dict(binary), strict=True)
    x = torch.randn(2, 4, IN)
    assert torch.equal(layer(x), binary.eval()(x))


def test_a_missing_bias_is_none_of_its_business() -> None:
    layer = plain()
    binary = BinaryTransposedLinear.convert(copy.deepcopy(layer), scale=None).eval()
    binary.bias = None
    x = torch.randn(4, IN, dtype=torch.float64)
    assert torch.allclose(binary(x), x @ torch.where(layer.weight < 0, -1.0, 1.0).double(), rtol=1e-13, atol=0)


def test_it_initialises_as_conv1d() -> None:
    torch.manual_seed(3)
    layer = Conv1D(OUT, IN)
    binary = BinaryTransposedLinear.convert(Conv1D(OUT, IN))
    torch.manual_seed(3)
    binary.reset_parameters()
    assert torch.equal(binary.latent, layer.weight)
    assert torch.equal(binary.bias, layer.bias)


class Subclass(Conv1D):
    pass


class Namesake(nn.Module):
    """Another `Conv1D`."""

    __qualname__ = "Conv1D"

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(2, 2))


def test_only_transformers_conv1d_becomes_one() -> None:
    assert BinaryTransposedLinear.float_class(Conv1D) is Conv1D
    assert BinaryTransposedLinear.float_class(Subclass) is Conv1D
    assert isinstance(BinaryTransposedLinear.convert(Subclass(OUT, IN)), BinaryTransposedLinear)
    for wrong in (Namesake(), nn.Conv1d(2, 2, 1), nn.Linear(2, 2)):
        with pytest.raises(TypeError, match="takes a Conv1D, got"):
            BinaryTransposedLinear.convert(wrong)
    with pytest.raises(TypeError, match="got BinaryTransposedLinear"):
        BinaryTransposedLinear.convert(BinaryTransposedLinear.convert(plain()))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_it_runs_under_autocast(dtype: torch.dtype) -> None:
    binary = BinaryTransposedLinear.convert(plain(torch.float32), weights="bc")
    x = torch.randn(2, 4, IN)
    with torch.autocast("cpu", dtype):
        output = binary(x)
    assert output.dtype == dtype
    assert torch.allclose(output.float(), binary(x), atol=0.1)
    output.float().sum().backward()
    assert binary.latent.grad.dtype == torch.float32


def test_copies_and_graphs() -> None:
    torch._dynamo.reset()
    binary, x = BinaryTransposedLinear.convert(plain()), torch.randn(4, IN, dtype=torch.float64)
    for again in (copy.deepcopy(binary), pickle.loads(pickle.dumps(binary))):
        assert torch.equal(again(x), binary(x))
    compiled = torch.compile(binary, fullgraph=True, backend="eager")
    assert torch.allclose(compiled(x), binary(x), rtol=1e-12, atol=1e-12)


def gpt2() -> GPT2LMHeadModel:
    config = GPT2Config(vocab_size=17, n_positions=8, n_embd=8, n_layer=2, n_head=2, attn_pdrop=0.0, embd_pdrop=0.0,
                        resid_pdrop=0.0)  # fmt: skip
    return GPT2LMHeadModel(config)


def test_gpt2_trains_and_ships(tmp_path: Path) -> None:
    float_model, tokens = gpt2(), torch.randint(0, 17, (2, 8))
    model: Any = pc.binarize(copy.deepcopy(float_model), scale="learned", keep=["lm_head"])
    layers = [m for m in model.modules() if isinstance(m, BinaryTransposedLinear)]
    assert len(layers) == sum(isinstance(m, Conv1D) for m in float_model.modules()) == 8
    model.train()(tokens, labels=tokens).loss.backward()
    assert all(layer.latent.grad.abs().sum() > 0 for layer in layers)
    pc.save(pc.pack(model), tmp_path / "a")
    loaded = pc.load(tmp_path / "a", gpt2())
    hardened = gpt2()
    hardened.load_state_dict(pc.hard_state_dict(model), strict=True)
    with torch.no_grad():
        expected = model.eval()(tokens).logits
        assert_ships(loaded(tokens).logits, expected, signs=False)
        assert torch.allclose(hardened.eval()(tokens).logits, expected, rtol=1e-4, atol=1e-5)
