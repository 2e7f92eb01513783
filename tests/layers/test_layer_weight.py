"""`layer.weight` is what the layer multiplies by; the parameter is `latent`, and every error says so."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize, prune

from proxconnect import BinaryConv2d, BinaryLinear, Pair
from proxconnect.layers import BinaryLayer
from proxconnect.pairs import prox

LAYERS: dict[str, Callable[[], BinaryLayer]] = {
    "linear": lambda: BinaryLinear(6, 4),
    "convolution": lambda: BinaryConv2d(4, 6, 3),
    "converted": lambda: BinaryLinear.convert(nn.Linear(6, 4)),
    "fp": lambda: BinaryLinear(6, 4, weights="fp"),
}
every_layer = pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS.keys())


@every_layer
def test_the_parameter_is_called_latent(make: Callable[[], BinaryLayer]) -> None:
    layer = make()
    assert [name for name, _ in layer.named_parameters()] == ["latent", "bias"]
    assert isinstance(layer.latent, nn.Parameter)
    assert list(layer.state_dict()) == ["latent", "bias", "weight_quantizer.mu"]
    assert (layer.weight.shape, layer.weight.dtype) == (layer.latent.shape, layer.latent.dtype)


@every_layer
def test_assigning_a_tensor_writes_the_latent(make: Callable[[], BinaryLayer]) -> None:
    layer = make()
    parameter, value = layer.latent, torch.randn_like(layer.latent)
    layer.weight = value
    assert layer.latent is parameter
    assert torch.equal(layer.latent, value)
    value.zero_()
    assert not torch.equal(layer.latent, value), "a copy, no alias"
    layer.weight = value.double()
    assert layer.latent.dtype == torch.float32


def test_an_in_place_write_to_the_weight_is_lost() -> None:
    layer = BinaryLinear(6, 4)
    before = layer.latent.detach().clone()
    with torch.no_grad(), pytest.warns(UserWarning, match="an in-place write to BinaryLinear.weight is lost"):
        layer.weight.zero_()
    assert torch.equal(layer.latent, before)


@every_layer
def test_bad_assignments(make: Callable[[], BinaryLayer]) -> None:
    layer = make()
    before = layer.latent.detach().clone()
    with pytest.raises(TypeError, match="latent"):
        layer.weight = nn.Parameter(torch.zeros_like(layer.latent))
    with pytest.raises(TypeError, match="latent"):
        layer.weight = None  # type: ignore[assignment]
    with pytest.raises(ValueError, match="latent has shape"):
        layer.weight = torch.zeros(1)
    with pytest.raises(TypeError, match="latent"):
        layer.register_parameter("weight", nn.Parameter(torch.zeros_like(layer.latent)))
    assert torch.equal(layer.latent, before)
    assert "weight" not in layer._parameters


@every_layer
def test_tying_names_the_latent(make: Callable[[], BinaryLayer]) -> None:
    layer = make()
    embedding = nn.Embedding(*layer.latent.shape[:2])
    with pytest.raises(TypeError, match="latent"):
        layer.weight = embedding.weight


def test_a_tied_latent_is_one_parameter() -> None:
    first, second = BinaryLinear(6, 4, bias=False), BinaryLinear(6, 4, bias=False)
    second.latent = first.latent
    model = nn.Sequential(first, second)
    assert len(list(model.parameters())) == 1
    assert torch.equal(first.weight, second.weight)


RENAMERS: dict[str, Callable[[nn.Module], object]] = {
    "prune": lambda layer: prune.l1_unstructured(layer, "weight", 0.5),
    "prune identity": lambda layer: prune.identity(layer, "weight"),
    "parametrize": lambda layer: parametrize.register_parametrization(layer, "weight", nn.Identity()),
    "weight_norm": lambda layer: parametrizations.weight_norm(layer),
    "spectral_norm": lambda layer: parametrizations.spectral_norm(layer),
    "orthogonal": lambda layer: parametrizations.orthogonal(layer),
}


@pytest.mark.parametrize("rename", RENAMERS.values(), ids=RENAMERS.keys())
def test_what_would_rename_the_weight_is_told_of_the_latent(rename: Callable[[nn.Module], object]) -> None:
    layer = BinaryLinear(6, 4)
    before = layer.latent.detach().clone()
    with pytest.raises(Exception, match="latent") as error:
        rename(layer)
    assert not isinstance(error.value, AttributeError)
    assert torch.equal(layer.latent, before)
    layer(torch.ones(1, 6))


class Broken(prox.Prox):
    def __call__(self, x: Tensor, mu: float | Tensor) -> Tensor:
        return x.no_such_method()  # type: ignore[no-any-return, operator]


def test_no_attribute_error_escapes_the_property() -> None:
    layer = BinaryLinear(6, 4)
    layer.weight_quantizer.pair = Pair("broken", prox=Broken())
    with pytest.raises(RuntimeError, match="no_such_method"):
        _ = layer.weight
    layer = BinaryLinear(6, 4)
    del layer._parameters["latent"]
    with pytest.raises(RuntimeError, match="latent"):
        _ = layer.weight


def test_conversion_is_in_place() -> None:
    for plain, binary_type in ((nn.Linear(6, 4), BinaryLinear), (nn.Conv2d(4, 6, 3, bias=False), BinaryConv2d)):
        weight, model = plain.weight, nn.Sequential(plain)
        plain.register_forward_hook(lambda module, args, output: output + 1)
        layer = binary_type.convert(plain, weights="bc", activations="bnn", scale="tensor")
        assert layer is plain
        assert model[0] is layer
        assert type(layer) is binary_type
        assert layer.latent is weight
        assert [q.pair.name for q in layer.quantizers.values()] == ["bc", "bnn"]
        assert len(layer._forward_hooks) == 1


def test_conversion_keeps_the_mode_and_the_device() -> None:
    assert not BinaryLinear.convert(nn.Linear(6, 4).eval()).weight_quantizer.training
    assert BinaryLinear.convert(nn.Linear(6, 4, device="meta")).weight.device.type == "meta"


def test_conversion_refuses_what_it_cannot_convert() -> None:
    others: tuple[Any, ...] = (nn.Conv2d(4, 6, 3), BinaryLinear(6, 4), nn.ReLU(), 5)
    for other in others:
        with pytest.raises(TypeError, match=r"BinaryLinear\.convert takes a Linear"):
            BinaryLinear.convert(other)
    with pytest.raises(TypeError, match="remove_parametrizations"):
        BinaryLinear.convert(parametrizations.weight_norm(nn.Linear(6, 4)))
    pruned = nn.Linear(6, 4)
    prune.identity(pruned, "weight")
    with pytest.raises(TypeError, match="pruned"):
        BinaryLinear.convert(pruned)


@pytest.mark.parametrize("wrong", [{"weights": "bnnn"}, {"activations": "bnnn"}, {"scale": "row"}])
def test_a_failed_conversion_leaves_the_float_layer(wrong: dict[str, str]) -> None:
    layer = nn.Linear(6, 4)
    with pytest.raises(ValueError, match=r"unknown pair|scale must be"):
        BinaryLinear.convert(layer, **wrong)  # type: ignore[arg-type]
    assert type(layer) is nn.Linear
    assert [name for name, _ in layer.named_parameters()] == ["weight", "bias"]
    BinaryLinear.convert(layer)


def test_prints_how_its_weight_is_made() -> None:
    text = repr(BinaryConv2d(4, 6, 3, weights="pc", scale="tensor", activations="bnn"))
    for part in ("BinaryConv2d(", "4, 6, kernel_size=(3, 3)", "weight=pc(latent)", "scale=tensor", "Quantizer('bnn'"):
        assert part in text
