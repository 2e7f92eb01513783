"""Binary inputs of 0 and 1 or of a learned scale: against their formula, what ships of them, and what is refused."""

import copy

import pytest
import torch
from torch import nn

import proxconnect as pc
from layer_kinds import KINDS
from proxconnect.export.formats import by_onnx_runtime, to_onnx
from proxconnect.layers.input_set import InputSet

TAKERS = [kind for kind in KINDS if "transpose" not in kind] + ["transposed_linear"]


def relu_net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 8, 3, padding=1, stride=2, bias=False),
        nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(), nn.Flatten(),
        nn.Linear(72, 8), nn.ReLU(), nn.Linear(8, 3),
    )  # fmt: skip


X = torch.randn(4, 2, 8, 8, generator=torch.Generator().manual_seed(0))


def elastic(x, threshold, scale):
    """Liu 2022 (arXiv 2205.13016), with α = 2a: α·[x ≥ threshold], and the gradient of a clamp to [0, 1] of x/α."""
    units = (x - threshold) / scale
    clamped = units.clamp(-1, 1)
    signs = clamped + (torch.where(units >= 0, 1.0, -1.0) - clamped).detach()
    return scale * (signs + 1)


def randomised(layer: nn.Module, is_learned: bool) -> nn.Module:
    layer.take_zero_one()
    if is_learned:
        pc.add_input_scales(pc.add_thresholds(layer))
        nn.init.uniform_(layer.input_shift.shift, -0.7, -0.1)
        nn.init.constant_(layer.input_set.log_scale, 0.3)
    return layer


@pytest.mark.parametrize("is_learned", [False, True])
@pytest.mark.parametrize("kind", TAKERS)
def test_a_layer_is_the_float_layer_of_elastic_inputs(kind, is_learned):
    """The twin runs torch's layer, which pads with 0, on the float values 0 and 2a; its gradients are autograd's."""
    twin = KINDS[kind].make(4)
    layer = randomised(KINDS[kind].form.convert(copy.deepcopy(twin), weights="fp", activations="bnn"), is_learned)
    x = KINDS[kind].input(4).requires_grad_()
    shift = layer.input_shift.shift.detach().clone().requires_grad_()
    log_scale = layer.input_set.log_scale.detach().clone().requires_grad_()
    threshold = -shift.reshape(-1, *(1,) * len(KINDS[kind].sizes))
    expected = twin(elastic(x, threshold, 0.5 * log_scale.exp()))
    torch.testing.assert_close(layer(x), expected, atol=1e-5, rtol=1e-5)
    cotangent = torch.randn_like(expected)
    weight = layer.latent
    parameters = [layer.input_shift.shift, layer.input_set.log_scale] if is_learned else []
    mine = torch.autograd.grad(layer(x), [x, weight, *parameters], cotangent)
    theirs = torch.autograd.grad(expected, [x, twin.weight, *([shift, log_scale] if is_learned else [])], cotangent)
    for one, other in zip(mine, theirs, strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("pair", ["bnn+", "bnn++"])
def test_f_and_b_of_the_pair_act_on_2x_minus_1(pair):
    layer = randomised(pc.BinaryLinear(5, 3, weights="bc", activations=pair), False)
    layer.weight_quantizer.override = "full_precision"
    x = torch.rand(7, 5, requires_grad=True)
    quantizer = layer.input_quantizer
    units = (2 * x - 1).detach().requires_grad_()
    values = quantizer(units)
    torch.testing.assert_close(layer(x), nn.functional.linear((values + 1) / 2, layer.latent, layer.bias))
    (expected,) = torch.autograd.grad(values, units, torch.ones(7, 3) @ layer.latent.detach())
    (found,) = torch.autograd.grad(layer(x).sum(), x)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("options", [{}, {"scale": None}, {"scale": "learned", "accumulator": pc.Accumulator(bits=4)}])
@pytest.mark.parametrize("is_learned", [False, True])
def test_it_trains_and_ships(options, is_learned, tmp_path):
    model = pc.binarize(relu_net(), "bc", "bnn", input_values=(0, 1), **options)
    if is_learned:
        pc.add_input_scales(pc.add_thresholds(model))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    for _ in range(3):
        optimizer.zero_grad()
        model(X).square().mean().backward()
        optimizer.step()
    assert bool(model[3].input_set.log_scale.any()) == is_learned
    packed = pc.pack(pc.reestimate_batchnorm(model, [X]), example=X)
    pc.save(packed, tmp_path / "file")
    loaded = pc.load(tmp_path / "file", relu_net())
    assert "from bits to bits" in str(packed.packing)
    with torch.no_grad():
        expected = model.eval()(X)
        in_floats = packed.to(torch.float64)(X.double())  # by torch alone
    assert torch.equal(packed.float()(X), expected)
    assert torch.equal(loaded(X), expected)
    torch.testing.assert_close(in_floats.float(), expected)


def test_with_batch_norm_behind_it_is_plus_minus_1_at_the_same_threshold():
    """Σ w·b = (Σ w·s + Σ w)/2, a scale and a constant of each channel, which batch norm removes."""
    inputs = torch.rand(6, 3, 5, 5, dtype=torch.float64)
    layers = {}
    for name in ("0 and 1", "±1"):
        torch.manual_seed(0)
        layer = pc.BinaryConv2d(3, 4, 3, padding=1, bias=False, weights="bc", activations="bnn", dtype=torch.float64)
        layers[name] = nn.Sequential(layer, nn.BatchNorm2d(4, eps=1e-30, dtype=torch.float64))
    layers["0 and 1"][0].take_zero_one()
    layers["±1"][0].set_padding_value(-1)
    outputs = [layers["0 and 1"](inputs), layers["±1"](2 * inputs - 1)]
    torch.testing.assert_close(*outputs)
    gradients = [
        torch.autograd.grad(y.pow(3).sum(), net[0].latent) for y, net in zip(outputs, layers.values(), strict=True)
    ]
    torch.testing.assert_close(*gradients)


def test_training_resumes_to_the_bit():
    def started():
        model = pc.add_thresholds(pc.binarize(relu_net(), "bnn++", "bnn+", input_values=(0, 1)))
        optimizer = torch.optim.Adam(pc.add_input_scales(model).parameters(), lr=0.05)
        return model, optimizer, pc.Sharpening(optimizer, model, steps=6)

    def train(model, optimizer, _):
        for _ in range(3):
            optimizer.zero_grad()
            model(X).square().mean().backward()
            optimizer.step()

    whole, stopped, resumed = started(), started(), started()
    for _ in range(2):
        train(*whole)
    train(*stopped)
    for mine, theirs in zip(resumed[:2], stopped[:2], strict=True):
        mine.load_state_dict(copy.deepcopy(theirs.state_dict()))
    train(*resumed)
    states = whole[0].state_dict(), resumed[0].state_dict()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_onnx_runtime_answers_the_same(tmp_path):
    model = nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Conv2d(4, 8, 3, padding=1), nn.Flatten(), nn.Linear(288, 2))
    packed = pc.pack(pc.add_input_scales(pc.binarize(model, "bc", "bnn", input_values=(0, 1))).eval())
    to_onnx(packed, X, tmp_path / "net.onnx", any_batch=False)
    torch.testing.assert_close(by_onnx_runtime(tmp_path / "net.onnx")(X)[0], packed(X))


def test_a_changed_weight_changes_its_constant():
    layer = pc.BinaryConv3d(2, 3, 2, weights="bc", activations="bnn")
    layer.take_zero_one()
    packed, x = pc.pack(layer.eval()), torch.rand(1, 2, 3, 3, 3)
    packed.bits.bitwise_not_()
    with torch.no_grad():
        layer.latent.neg_()
        kept = pc.pack(layer).bits == packed.bits
        assert torch.equal(packed(x), layer(x))
    assert bool(kept.all())


def test_a_summary_counts_what_the_file_has():
    model = pc.add_input_scales(pc.binarize(relu_net(), "bc", "bnn", input_values=(0, 1)))
    found, packed = pc.summary(model), pc.summary(pc.pack(model))
    assert found.packed_bytes == packed.packed_bytes
    assert "InputSet" not in str(found)


def test_a_relu_in_front_is_no_reason_to_warn(recwarn):
    model = pc.binarize(relu_net(), "bc", "bnn", input_values=(0, 1), example=X)
    assert not recwarn.list
    assert "inputs 0 or 1" in str(model.binarization)


def test_state_dicts_say_which_values_inputs_have():
    model = pc.binarize(relu_net(), "bc", "bnn", input_values=(0, 1))
    model.load_state_dict(relu_net().state_dict())
    again = pc.binarize(relu_net(), "bc", "bnn", input_values=(0, 1))
    again.load_state_dict(model.state_dict())
    other = pc.add_input_scales(pc.add_thresholds(pc.binarize(relu_net(), "bc", "bnn")))
    with pytest.raises(RuntimeError, match="the inputs are 0 and 1 in the state dict, but -1 and 1 in the layer"):
        other.load_state_dict(model.state_dict())


@pytest.mark.parametrize("has_thresholds", [False, True])
def test_a_scale_of_plus_minus_1_ships(has_thresholds):
    model = pc.add_input_scales(pc.binarize(relu_net(), "bc", "bnn"))
    if has_thresholds:
        pc.add_thresholds(model, start=0.4)
    for module in model.modules():
        if isinstance(module, InputSet):
            nn.init.constant_(module.log_scale, -0.7)
            assert module.values() == pytest.approx((-0.4966, 0.4966), abs=1e-4)
    with torch.no_grad():
        packed = pc.pack(model.eval())
        assert torch.equal(packed(X), model(X))


@pytest.mark.parametrize(("number", "words"), [(float("nan"), "of its inputs is nan"), (99.0, "of its inputs is inf")])
def test_a_scale_that_diverged_is_refused(number, words):
    layer = pc.add_input_scales(pc.BinaryLinear(4, 2, activations="bnn"))
    nn.init.constant_(layer.input_set.log_scale, number)
    with pytest.raises(ValueError, match=words):
        pc.pack(layer)


def attention() -> nn.Module:
    return nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)


@pytest.mark.parametrize(
    ("make", "options", "words"),
    [
        (relu_net, {"input_values": (0, 2)}, r"must be \(-1, 1\) or \(0, 1\)"),
        (relu_net, {"input_values": (0, 1), "activations": None}, "are for binary inputs"),
        (relu_net, {"input_values": (0, 1), "padding_value": 1}, "layer '3': .* leave out padding_value=1"),
        (attention, {"input_values": (0, 1), "keep": None}, "layer 'self_attn': the in-projections .* take no inputs"),
        (
            lambda: nn.ConvTranspose2d(2, 2, 3), {"input_values": (0, 1), "keep": None},
            "a transposed convolution takes no inputs of 0 and 1",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_and_changes_nothing(make, options, words):
    model = make()
    before = list(model.state_dict())
    with pytest.raises(ValueError, match=words):
        pc.binarize(model, "bc", **({"activations": "bnn"} | options))
    assert list(model.state_dict()) == before
