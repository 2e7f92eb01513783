"""Scales of groups of inputs: a layer with groups is one whose outputs' groups are outputs of their own."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

import proxconnect as pc
from proxconnect import PAIRS, Quantizer, kernels
from proxconnect.layers import BinaryLayer, BinaryLinear, BinaryMultiheadAttention, BinaryTransposedLinear

SIZE, GROUPS, OUT = 4, 3, 5
IN = SIZE * GROUPS


def linear(**options: Any) -> BinaryLayer:
    return BinaryLinear(IN, OUT, dtype=torch.float64, group_size=SIZE, **options)


def transposed(**options: Any) -> BinaryLayer:
    layer = Conv1D(OUT, IN).to(torch.float64)
    nn.init.normal_(layer.weight)
    return BinaryTransposedLinear.convert(layer, group_size=SIZE, **options)


def projection(**options: Any) -> BinaryLayer:
    attention = nn.MultiheadAttention(IN, 1, dtype=torch.float64)
    BinaryMultiheadAttention.convert(attention, group_size=SIZE, **options)
    return attention.in_proj_weight_binary


def in_rows(layer: BinaryLayer, weight: Tensor) -> Tensor:
    """A weight as (outputs · groups, SIZE), each row with the entries that share a scale."""
    outputs_first = weight.T if isinstance(layer, BinaryTransposedLinear) else weight
    return outputs_first.reshape(-1, SIZE)


every_layer = pytest.mark.parametrize("made", [linear, transposed, projection])
Made = Callable[..., BinaryLayer]


@pytest.mark.covering
@every_layer
@pytest.mark.parametrize("name", [name for name in PAIRS if name != "fp"])
@pytest.mark.parametrize("scale", ["channel", "learned"])
@pytest.mark.parametrize("training", [True, False])
def test_every_group_is_quantised_as_an_output_of_its_own(made: Made, name: str, scale: str, training: bool) -> None:
    layer = made(weights=name, scale=scale).train(training)
    rows = in_rows(layer, layer.latent.detach()).clone().requires_grad_()
    twin = Quantizer(name, scale).to(torch.float64).train(training)
    twin.start_scale(rows)
    torch.testing.assert_close(in_rows(layer, layer.weight), twin(rows), rtol=1e-12, atol=1e-12)
    pull = torch.randn_like(layer.latent)
    (mine,) = torch.autograd.grad(layer.weight, layer.latent, pull)
    (theirs,) = torch.autograd.grad(twin(rows), rows, in_rows(layer, pull))
    torch.testing.assert_close(in_rows(layer, mine), theirs, rtol=1e-12, atol=1e-12)


@every_layer
def test_one_group_is_a_scale_per_channel(made: Made) -> None:
    layer = made()
    whole = BinaryLinear(IN, 1, dtype=torch.float64, group_size=IN)
    with torch.no_grad():
        whole.latent.copy_(in_rows(layer, layer.latent)[:GROUPS].reshape(1, IN))
    other = BinaryLinear(IN, 1, dtype=torch.float64)
    other.load_state_dict(whole.state_dict())
    assert torch.equal(whole.weight, other.weight)


def test_a_learned_scale_has_an_entry_for_every_group() -> None:
    assert linear(scale="learned").weight_quantizer.alpha.shape == (OUT, GROUPS)
    assert transposed(scale="learned").weight_quantizer.alpha.shape == (GROUPS, OUT)


def test_float_weights_load_and_start_a_learned_scale() -> None:
    layer, weight = linear(scale="learned"), torch.randn(OUT, IN, dtype=torch.float64)
    layer.load_state_dict({"weight": weight, "bias": torch.zeros(OUT)})
    torch.testing.assert_close(layer.weight_quantizer.alpha, weight.reshape(OUT, GROUPS, SIZE).abs().mean(2))


def test_binarize_gives_groups_and_says_so() -> None:
    model = pc.binarize(nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 2)), "bc", group_size=4)
    assert model[1].group_size == 4
    assert "scale channel, for every 4 inputs" in str(model.binarization)
    assert "group_size=4" in repr(model[1])


CONV_NET = [nn.Linear(8, 8), nn.Conv2d(8, 8, 3), nn.Linear(8, 2)]
WRONG: dict[str, tuple[dict[str, Any], list[nn.Module], type[Exception], str]] = {
    "no divisor": (
        {"group_size": 3},
        [nn.Linear(8, 8)],
        ValueError,
        "layer '0': groups of 3 do not divide the 8 inputs",
    ),
    "a convolution": ({"group_size": 4}, CONV_NET, ValueError, "layer '1': group_size is for linear layers.*a Conv2d"),
    "binary inputs": ({"group_size": 4, "activations": "bnn"}, [nn.Linear(8, 8)], ValueError, "for float inputs"),
    "one scale": ({"group_size": 4, "scale": "tensor"}, [nn.Linear(8, 8)], ValueError, "scale='channel' or 'learned'"),
    "no scale": ({"group_size": 4, "scale": None}, [nn.Linear(8, 8)], ValueError, "needs scale='channel'"),
    "none": ({"group_size": 0}, [nn.Linear(8, 8)], ValueError, "at least 1"),
    "a fraction": ({"group_size": 4.0}, [nn.Linear(8, 8)], TypeError, "a whole number of inputs, as 128"),
}


@pytest.mark.parametrize(("options", "layers", "error", "words"), WRONG.values(), ids=WRONG)
def test_wrong_groups_are_refused_in_words(
    options: dict[str, Any], layers: list[nn.Module], error: type[Exception], words: str
) -> None:
    model = nn.Sequential(*layers)
    for function in (pc.plan, pc.binarize):
        with pytest.raises(error, match=words):
            function(model, keep=None, **options)
    assert not any(isinstance(module, BinaryLayer) for module in model)


def test_one_layer_is_refused_as_it_was() -> None:
    layer = nn.Linear(8, 8)
    with pytest.raises(ValueError, match="groups of 3 do not divide"):
        BinaryLinear.convert(layer, group_size=3)
    assert type(layer) is nn.Linear
    with pytest.raises(ValueError, match="for linear layers"):
        pc.layers.BinaryParameter(nn.Parameter(torch.randn(4, 4)), group_size=2)


@pytest.mark.parametrize("scale", ["channel", "learned"])
@every_layer
def test_it_ships(tmp_path: Path, made: Made, scale: str) -> None:
    floats: nn.Module
    if made is projection:
        model: nn.Module = pc.binarize(nn.MultiheadAttention(IN, 1), keep=None, scale=scale, group_size=SIZE)
        floats, x = nn.MultiheadAttention(IN, 1), (torch.randn(2, 3, IN),) * 3
    else:
        floats = nn.Sequential(nn.Linear(IN, OUT) if made is linear else Conv1D(OUT, IN))
        model = nn.Sequential(made(scale=scale).float())
        x = (torch.randn(2, IN),)
    packed = pc.pack(model.eval())
    pc.save(packed, tmp_path / "file")
    loaded = pc.load(tmp_path / "file", floats)
    for network in (packed, loaded):
        answer, hard = (out[0] if made is projection else out for out in (network(*x), model(*x)))
        torch.testing.assert_close(answer, hard)
    weights = pc.hard_state_dict(loaded)
    name = "in_proj_weight" if made is projection else "0.weight"
    torch.testing.assert_close(weights[name], pc.hard_state_dict(model)[name], rtol=0, atol=0)


def by_torch(packed: nn.Sequential, x: Tensor) -> Tensor:
    """What the layers of `packed` answer by their unpacked weights."""
    hidden = nn.functional.linear(x, packed[0].weight, packed[0].bias).relu()
    return nn.functional.linear(hidden, packed[2].weight, packed[2].bias)


@pytest.mark.skipif(not kernels.is_built(), reason="the kernels were not built")
@pytest.mark.parametrize("vectors", ["float32", "float16"])
@pytest.mark.parametrize(("inputs", "allowed"), [("exact", 1e-5), ("int8", 2e-2)])
def test_kernels_multiply_groups_and_notice_a_changed_scale(vectors: Any, inputs: Any, allowed: float) -> None:
    floats = nn.Sequential(nn.Linear(128, 192), nn.ReLU(), nn.Linear(192, 64))
    packed: Any = pc.pack(pc.binarize(floats, keep=None, group_size=64).eval(), inputs=inputs, vectors=vectors)
    x = torch.randn(5, 128)
    for _ in range(2):
        expected = by_torch(packed, x)
        close = {"rtol": 0.0, "atol": allowed * float(expected.abs().max())}
        assert all(packed[i].is_by_kernels(x, packed[i].bias) for i in (0, 2))
        torch.testing.assert_close(packed(x), expected, **close)
        alone = packed[2](packed[1](packed[0](x)))
        torch.testing.assert_close(alone, expected, **close)
        packed[0].scale[..., :1].mul_(3)


def test_a_file_of_16_bit_scales_takes_an_eighth_of_a_bit_for_each_of_128_weights(tmp_path: Path) -> None:
    model = pc.binarize(nn.Sequential(nn.Linear(1024, 1024, bias=False)), keep=None, group_size=128)
    pc.save(pc.pack(model.eval(), vectors="float16"), tmp_path / "file")
    assert 1.125 <= 8 * (tmp_path / "file").stat().st_size / 1024**2 < 1.13
