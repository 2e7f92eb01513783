"""ReActNet's modules and thresholds against their formulas, and what ships of them."""

import copy

import pytest
import torch
from torch import nn

import proxconnect as pc
from layer_kinds import KINDS
from proxconnect.layers.react import RPReLU, Shift


def rsign(x, threshold):
    """Liu 2020, equation 1, of images."""
    alpha = threshold[None, :, None, None]
    return torch.where(x >= alpha, 1.0, -1.0)


def rprelu(x, gamma, zeta, beta):
    """Liu 2020, equation 2, of images."""
    gamma, zeta, beta = (v[None, :, None, None] for v in (gamma, zeta, beta))
    return torch.where(x > gamma, x - gamma + zeta, beta * (x - gamma) + zeta)


@pytest.mark.parametrize(("dim", "shape"), [(1, (2, 3)), (1, (2, 3, 4, 5)), (-1, (2, 5, 3)), (-3, (3, 4, 5))])
def test_a_shift_adds_to_its_channels(dim, shape):
    shift, x = Shift(3, dim), torch.randn(shape)
    assert torch.equal(shift(x), x)
    with torch.no_grad():
        shift.shift.copy_(torch.tensor([1.0, 2.0, 3.0]))
    assert torch.equal(shift(x).movedim(dim, -1), x.movedim(dim, -1) + shift.shift)


def test_a_shift_and_a_binary_layer_are_rsign_and_a_product():
    shift, layer = Shift(3), pc.BinaryConv2d(3, 4, 3, padding=1, weights="bc", activations="poly")
    with torch.no_grad():
        shift.shift.normal_()
    x = torch.randn(2, 3, 5, 5)
    expected = nn.functional.conv2d(rsign(x, -shift.shift), layer.weight, layer.bias, padding=1)
    torch.testing.assert_close(layer(shift(x)), expected)


def test_rprelu_is_the_formula():
    module, x = RPReLU(3), torch.randn(2, 3, 4, 4)
    assert torch.equal(module(x), nn.PReLU(3)(x))
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_()
    down, slope, up = module
    torch.testing.assert_close(module(x), rprelu(x, -down.shift, up.shift, slope.weight))


def test_thresholds_learn():
    model = nn.Sequential(Shift(6, -1), pc.BinaryLinear(6, 4, activations="poly"), RPReLU(4))
    model(torch.randn(5, 6)).square().sum().backward()
    assert all(p.grad is not None and bool(p.grad.any()) for p in model.parameters())


def test_dimension_0_is_refused():
    with pytest.raises(ValueError, match="dimension 0 is the batch"):
        Shift(3, dim=0)


@pytest.mark.parametrize("kind", KINDS)
def test_layers_with_a_threshold_are_the_layer_behind_a_shift(kind):
    layer = KINDS[kind].binary(4, weights="bnn++", activations="poly")
    x = KINDS[kind].input(4)
    plain = copy.deepcopy(layer)
    assert pc.add_thresholds(layer) is layer
    assert torch.equal(layer(x), plain(x))
    with torch.no_grad():
        layer.input_shift.shift.normal_()
    per_channel = layer.input_shift.shift.reshape(-1, *(1,) * len(KINDS[kind].sizes))
    assert torch.equal(layer(x), plain(x + per_channel))
    layer(x).square().sum().backward()
    assert bool(layer.input_shift.shift.grad.any())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_thresholds_ship(kind, dtype, tmp_path):
    model = nn.Sequential(KINDS[kind].binary(4, dtype, weights="bnn++", activations="poly"))
    pc.add_thresholds(model)
    nn.init.normal_(model[0].input_shift.shift)
    x = KINDS[kind].input(4, dtype)
    packed = pc.pack(model, example=x)
    pc.save(packed, tmp_path / "a")
    loaded = pc.load(tmp_path / "a", nn.Sequential(KINDS[kind].make(4).to(dtype)))
    with torch.no_grad():
        expected = model.eval()(x)
    assert torch.equal(packed(x), expected)
    assert torch.equal(loaded(x), expected)
    assert not any(p.requires_grad for p in (*packed.parameters(), *loaded.parameters()))


def test_thresholds_start_where_you_say():
    x = torch.tensor([[0.0, 0.4, 0.5, 1.0]])  # of a ReLU
    layer = pc.add_thresholds(pc.BinaryLinear(4, 1, bias=False, weights="bc", activations="poly"), start=0.5)
    assert torch.equal(layer.quantize_input(x), torch.tensor([[-1.0, -1.0, 1.0, 1.0]]))
    with pytest.raises(ValueError, match="start must be finite; got nan"):
        pc.add_thresholds(layer, start=float("nan"))


def thresholded() -> nn.Module:
    layers = [nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 2)]
    return pc.add_thresholds(pc.binarize(nn.Sequential(*layers), "bc", "poly"))


def test_layers_of_float_inputs_get_none_and_a_second_call_changes_nothing():
    model = thresholded()
    shifts = [model[1].input_shift, model[2].input_shift]
    assert pc.add_thresholds(model)[1].input_shift is shifts[0]
    assert len([m for m in model.modules() if isinstance(m, Shift)]) == 2


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (lambda: nn.Linear(2, 2), "no binary layer: call binarize"),
        (lambda: pc.binarize(nn.Linear(2, 2), "bc", keep=None), "no layer has binary inputs: call binarize"),
        (
            lambda: pc.binarize(nn.MultiheadAttention(8, 2), "bc", "poly", keep=["out_proj"]),
            "only in-projections of attention have binary inputs",
        ),
    ],
)
def test_without_binary_inputs_it_is_said(model, words):
    with pytest.raises(ValueError, match=words):
        pc.add_thresholds(model())


def test_state_dicts_with_and_without_thresholds():
    model, floats = thresholded(), nn.Sequential(*(nn.Linear(8, 8) for _ in range(3)), nn.Linear(8, 2))
    nn.init.normal_(model[1].input_shift.shift)
    before = model[1].input_shift.shift.detach().clone()
    model.load_state_dict(floats.state_dict())
    assert torch.equal(model[1].input_shift.shift, before)
    binary = pc.binarize(copy.deepcopy(floats), "bnn++")
    model.load_state_dict(binary.state_dict())
    assert torch.equal(model[1].input_shift.shift, before)
    assert torch.equal(model[1].latent, binary[1].latent)
    without = pc.binarize(copy.deepcopy(floats), "bc", "poly")
    with pytest.raises(RuntimeError, match="input_shift"):
        model.load_state_dict(without.state_dict())
    again = thresholded()
    again.load_state_dict(model.state_dict())
    assert torch.equal(again[1].input_shift.shift, before)
    with pytest.warns(UserWarning, match="quantises activations too"):
        floats.load_state_dict(pc.hard_state_dict(model))


def test_a_summary_counts_thresholds_as_the_file_has_them(tmp_path):
    model = thresholded()
    packed = pc.pack(model)
    pc.save(packed, tmp_path / "a")
    found = pc.summary(model, torch.randn(2, 8))
    assert found.packed_bytes == pc.summary(packed).packed_bytes
    assert found.parameters == sum(p.numel() for p in model.parameters())


def test_a_threshold_gives_an_input_of_one_sign_both():
    model = pc.BinaryLinear(4, 4, activations="poly")
    x = torch.rand(8, 4) + 0.5
    assert pc.summary(model, x).one_signed == ("",)
    nn.init.constant_(pc.add_thresholds(model).input_shift.shift, -1.0)
    assert pc.summary(model, x).one_signed == ()
    assert pc.summary(pc.pack(model), x).one_signed == ()
