"""Code that takes `layer.weight` behind the layer's back gets the quantised weight and the right gradient."""

import copy

import pytest
import torch
from torch import nn

from proxconnect import PAIRS, BinaryLinear


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("training", [True, False])
def test_the_output_projection_of_attention(name: str, training: bool) -> None:
    """Against a float attention whose out_proj.weight is the quantised one, B applied by hand to its gradient."""
    plain = nn.MultiheadAttention(8, 2, dtype=torch.float64)
    binary = copy.deepcopy(plain)
    projection = BinaryLinear.convert(binary.out_proj, weights=name, scale=None)
    projection.weight_quantizer.mu.fill_(2.0)
    binary.train(training)
    with torch.no_grad():
        plain.out_proj.weight.copy_(projection.weight)
    x = torch.randn(5, 3, 8, dtype=torch.float64)
    ours, theirs = binary(x, x, x)[0], plain(x, x, x)[0]
    assert torch.allclose(ours, theirs, rtol=0, atol=1e-13)
    ours.square().sum().backward()
    theirs.square().sum().backward()
    expected = plain.out_proj.weight.grad * PAIRS[name].backward(projection.latent.detach(), 2.0)
    assert torch.allclose(projection.latent.grad, expected, rtol=1e-12, atol=1e-12)
    assert torch.allclose(binary.in_proj_weight.grad, plain.in_proj_weight.grad, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_the_fast_path_of_the_encoder_layer_is_hard(norm_first: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    binary = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, norm_first=norm_first).eval()
    plain = copy.deepcopy(binary)
    for name in ("linear1", "linear2", "self_attn.out_proj"):
        layer = BinaryLinear.convert(binary.get_submodule(name))
        with torch.no_grad():
            plain.get_submodule(name).weight.copy_(layer.binary_weight)
    x, calls = torch.randn(3, 5, 8), []
    fused = torch._transformer_encoder_layer_fwd
    monkeypatch.setattr(torch, "_transformer_encoder_layer_fwd", lambda *a: calls.append(1) or fused(*a))
    with torch.no_grad():
        assert torch.allclose(binary(x), plain(x), rtol=0, atol=1e-6)
    assert len(calls) == 2, "both took the fast path"
    assert torch.allclose(binary(x), plain(x), rtol=0, atol=1e-5)


def test_the_encoder_trains_on_the_soft_weights() -> None:
    binary = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, dropout=0.0)
    plain = copy.deepcopy(binary)
    layer = BinaryLinear.convert(binary.linear1)
    with torch.no_grad():
        plain.linear1.weight.copy_(layer.weight)
    x = torch.randn(3, 5, 8)
    assert torch.allclose(binary(x), plain(x), rtol=0, atol=1e-6)
    binary(x).sum().backward()
    assert layer.latent.grad is not None
