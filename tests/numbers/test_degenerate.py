"""Weights of zeros and of one value, layers of one entry, batches of none and of one, from training to the file."""

import math
from itertools import product

import pytest
import torch
from torch import nn

import proxconnect as pc
from layer_kinds import KINDS
from proxconnect import PAIRS, BinaryLinear, Quantizer
from spoiled import CHANNELS, INPUTS, Net, net

SCALES = ("channel", "tensor", "learned", None)

each_kind = pytest.mark.parametrize("kind", KINDS)
each_input = pytest.mark.parametrize("inputs", INPUTS)
each_pair = pytest.mark.parametrize("pair", [name for name in PAIRS if name != "fp"])


@pytest.mark.covering
@each_kind
@each_input
@pytest.mark.parametrize("value", [0.0, -0.3])
def test_latents_of_one_value_train_and_ship(value, kind, inputs):
    model, x = net(kind, inputs), KINDS[kind].input(CHANNELS)
    for layer in (model[0], model[3]):
        nn.init.constant_(layer.latent, value)
    model(x).sum().backward()
    assert all(p.grad.isfinite().all() for p in model.parameters())
    hard = model.eval()(x)
    assert hard.isfinite().all()
    torch.testing.assert_close(pc.pack(model)(x), hard, rtol=1e-5, atol=1e-5)
    if value == 0:
        assert torch.equal(model[0].binary_weight, torch.zeros_like(model[0].latent))
        torch.testing.assert_close(hard, model[3].bias.expand(2, 5))


@each_pair
@pytest.mark.parametrize("way", ["kernels", "torch"])
def test_a_channel_of_zeros_has_weight_0_and_finite_gradients(way, pair, request):
    if way == "torch":
        request.getfixturevalue("by_torch")
    for scale, zero in product(SCALES, (0.0, -0.0)):
        made, latent = Quantizer(pair, scale), torch.randn(3, 40)
        latent[1] = zero
        made.start_scale(latent)
        weight = made(latent.requires_grad_())
        weight.sum().backward()
        assert weight.isfinite().all(), scale
        assert latent.grad.isfinite().all(), scale
        if scale in ("channel", "learned"):
            assert torch.equal(weight[1], torch.zeros(40))
            assert torch.equal(made.hard(latent)[1], torch.zeros(40))


@pytest.mark.covering(strength=1)
@each_pair
@each_input
def test_a_layer_of_one_weight_trains_and_ships(inputs, pair):
    x = torch.tensor([[-0.7], [0.0], [0.4]])
    for scale in SCALES:
        layer = BinaryLinear(1, 1, weights=pair, scale=scale, **INPUTS[inputs])
        if inputs == "shifted":
            pc.add_thresholds(layer)
        layer(x).sum().backward()
        assert layer.latent.grad.isfinite().all(), scale
        assert torch.equal(pc.pack(layer)(x), layer.eval()(x)), scale


@each_kind
@each_input
@torch.no_grad()
def test_no_rows_make_no_rows(kind, inputs, tmp_path):
    model, nothing = net(kind, inputs).eval(), KINDS[kind].input(CHANNELS)[:0]
    packed = pc.pack(model)
    pc.save(packed, tmp_path / "net.safetensors")
    loaded = pc.load(tmp_path / "net.safetensors", Net(kind))
    layers = nn.Sequential(*packed)
    for stage, run in {"binary": model, "graph": packed, "layers": layers, "loaded": loaded}.items():
        assert run(nothing).shape == Net(kind).eval()(nothing).shape == (0, 5), stage
    x = KINDS[kind].input(CHANNELS)
    torch.testing.assert_close(packed(x), layers(x))


@each_input
def test_no_rows_train_and_leave_every_latent_where_it_is(inputs):
    model = nn.Sequential(BinaryLinear(8, 4, **INPUTS[inputs]))
    meters = pc.Meters(model)
    meters.read()
    model(torch.zeros(0, 8)).sum().backward()
    assert torch.equal(model[0].latent.grad, torch.zeros(4, 8))
    assert not any(map(math.isnan, meters.read().values()))


@pytest.mark.covering(strength=1)
@each_kind
@each_input
def test_a_batch_of_one_is_refused_by_batch_norm_in_training_alone(kind, inputs):
    model, x = net(kind, inputs), KINDS[kind].input(CHANNELS)[:1]
    if not KINDS[kind].sizes:
        with pytest.raises(ValueError, match="Expected more than 1 value per channel"):
            model(x)
    else:
        model(x).sum().backward()
        assert model[0].latent.grad.isfinite().all()
    packed = pc.pack(model)
    torch.testing.assert_close(packed(x), model.eval()(x), rtol=1e-5, atol=1e-5)
