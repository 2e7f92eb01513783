"""The learned scale: where it starts, how it moves, and that it ships."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import proxconnect as pc
from layer_kinds import KINDS, channel_indices
from proxconnect import PAIRS, Quantizer
from proxconnect.layers import (
    Accumulator,
    BinaryConvTranspose2d,
    BinaryLayer,
    BinaryLinear,
    BinaryMultiheadAttention,
    binarize_parameter,
)
from shipping import assert_ships

SOFT_OR_HARD = [name for name in PAIRS if name != "fp"]
every_kind = pytest.mark.parametrize("kind", KINDS)
every_pair = pytest.mark.parametrize("name", SOFT_OR_HARD)
with_and_without = pytest.mark.parametrize("accumulator", [None, Accumulator(24, "saturate")])


def learned(kind: str, dtype: torch.dtype = torch.float64, **options: Any) -> BinaryLayer:
    return KINDS[kind].binary(4, dtype, scale="learned", **options)


@pytest.mark.covering(together=("kind accumulator", "name accumulator"))
@every_kind
@every_pair
@with_and_without
def test_it_starts_as_the_least_squares_scale(kind: str, name: str, accumulator: Accumulator | None) -> None:
    options: dict[str, Any] = {"weights": name, "activations": "bnn", "accumulator": accumulator}
    layer, other = learned(kind, **options), KINDS[kind].binary(4, torch.float64, **options)
    other.load_state_dict({"weight": layer.latent.detach(), "bias": layer.bias.detach()})
    x = KINDS[kind].input(4, torch.float64)
    for training in (True, False):
        layer.train(training)
        other.train(training)
        assert torch.allclose(layer(x), other(x), rtol=1e-12, atol=1e-12), training
        assert torch.allclose(layer.weight, other.weight, rtol=1e-12, atol=1e-12), training
        assert torch.allclose(layer.binary_weight, other.binary_weight, rtol=1e-14, atol=0), training


@every_kind
def test_it_has_one_parameter_a_channel_that_starts_at_the_mean_magnitude(kind: str) -> None:
    layer = learned(kind)
    alpha = layer.weight_quantizer.alpha
    expected = torch.stack([layer.latent.detach()[index].abs().mean() for index in channel_indices(layer)])
    assert isinstance(alpha, nn.Parameter)
    assert torch.allclose(alpha.flatten(), expected, rtol=1e-14, atol=0)


def test_its_shape_is_that_of_the_channels() -> None:
    layer = BinaryConvTranspose2d(4, 6, 3, groups=2, scale="learned")
    assert layer.weight_quantizer.alpha.shape == (2, 3)
    owner = nn.Module()
    owner.weights = nn.Parameter(torch.randn(2, 5, 3))
    child = binarize_parameter(owner, "weights", scale="learned", channel_dims=(0, -1))
    assert child.weight_quantizer.alpha.shape == (2, 3)
    attention = BinaryMultiheadAttention(4, 2, scale="learned")
    assert attention.in_proj_weight_binary.weight_quantizer.alpha.shape == (12,)
    assert attention.out_proj.weight_quantizer.alpha.shape == (4,)


@pytest.mark.covering
@every_kind
@pytest.mark.parametrize("name", ["bnn++", "bnn", "poly+"])
@pytest.mark.parametrize("training", [True, False])
@with_and_without
def test_the_gradient_of_the_scale_is_its_finite_difference(
    kind: str, name: str, training: bool, accumulator: Accumulator | None
) -> None:
    layer = learned(kind, weights=name, activations="bnn", accumulator=accumulator).train(training)
    alpha, x, h = layer.weight_quantizer.alpha, KINDS[kind].input(4, torch.float64), 1e-5
    alpha.detach().copy_(torch.randn(alpha.shape))
    (gradient,) = torch.autograd.grad(layer(x).square().sum(), alpha)
    for place in range(alpha.numel()):
        losses = []
        for step in (h, -2 * h):
            alpha.detach().view(-1)[place] += step
            losses.append(float(layer(x).detach().square().sum()))
        alpha.detach().view(-1)[place] += h
        assert abs((losses[0] - losses[1]) / (2 * h) - float(gradient.view(-1)[place])) < 1e-6 * (1 + abs(losses[0]))


@pytest.mark.covering(together=("kind training", "name training"))
@every_kind
@every_pair
@pytest.mark.parametrize("training", [True, False])
def test_the_latent_s_factor_is_that_of_the_scale(kind: str, name: str, training: bool) -> None:
    """s·(α/ᾱ)·B(w*/ᾱ)/ᾱ, channel by channel; α is ᾱ where F is the sign."""
    layer = learned(kind, weights=name).train(training)
    mu, pair = float(layer.weight_quantizer.mu), PAIRS[name]
    alpha = layer.weight_quantizer.alpha
    alpha.detach().copy_(torch.randn(alpha.shape))
    g = torch.randn(layer.latent.shape, dtype=torch.float64)
    (ours,) = torch.autograd.grad(layer.weight, layer.latent, g)
    for index, s in zip(channel_indices(layer), alpha.detach().flatten(), strict=True):
        values = layer.latent.detach()[index]
        magnitude = values.abs().mean()
        x = values / magnitude
        f = pair.forward(x, mu) if training else torch.where(x < 0, -1.0, 1.0).double()
        ratio = (x * f).sum() / (f * f).sum()
        expected = g[index] * s * ratio * pair.backward(x, mu) / magnitude
        assert torch.allclose(ours[index], expected, rtol=1e-11, atol=1e-12)
        assert torch.allclose(layer.weight[index], s * ratio * f, rtol=1e-12, atol=1e-12)


def three_layers() -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 8), nn.BatchNorm1d(8), nn.Linear(8, 2))


def test_an_optimizer_moves_it() -> None:
    model = pc.binarize(three_layers(), "bnn", "poly", scale="learned")
    assert [name for name, _ in model.named_parameters() if name.startswith("2.")] == [
        "2.latent",
        "2.bias",
        "2.weight_quantizer.alpha",
    ]
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.0)
    before = model[2].weight_quantizer.alpha.detach().clone()
    for _ in range(3):
        optimizer.zero_grad()
        model(torch.randn(16, 4)).square().sum().backward()
        optimizer.step()
    assert (model[2].weight_quantizer.alpha != before).all()


def test_the_latents_do_not_move_it() -> None:
    layer = BinaryLinear(4, 3, scale="learned")
    before = layer.binary_weight.abs()
    layer.latent.detach().mul_(7)
    assert torch.equal(layer.binary_weight.abs(), before)


@every_kind
@pytest.mark.parametrize("assign", [True, False])
def test_a_float_checkpoint_starts_it_anew_and_a_binary_one_keeps_it(kind: str, assign: bool) -> None:
    layer, plain = learned(kind, torch.float32), KINDS[kind].make(4)
    layer.weight_quantizer.alpha.detach().fill_(-3.0)
    kept = {name: value.clone() for name, value in layer.state_dict().items()}
    layer.load_state_dict(plain.state_dict(), strict=True, assign=assign)
    expected = torch.stack([plain.weight.detach()[index].abs().mean() for index in channel_indices(layer)])
    assert torch.allclose(layer.weight_quantizer.alpha.flatten(), expected, rtol=1e-6, atol=0)
    assert isinstance(layer.weight_quantizer.alpha, nn.Parameter)
    layer.load_state_dict(kept, strict=True, assign=assign)
    assert (layer.weight_quantizer.alpha == -3.0).all()


def test_a_float_checkpoint_of_attention_and_raw_parameters_starts_it_anew() -> None:
    plain, attention = nn.MultiheadAttention(4, 2), BinaryMultiheadAttention(4, 2, scale="learned")
    attention.load_state_dict(plain.state_dict(), strict=True)
    alpha = attention.in_proj_weight_binary.weight_quantizer.alpha
    assert torch.allclose(alpha, plain.in_proj_weight.abs().mean(1), rtol=1e-6, atol=0)
    owner = nn.Embedding(5, 4)
    child = binarize_parameter(owner, "weight", scale="learned")
    other = nn.Embedding(5, 4)
    owner.load_state_dict(other.state_dict(), strict=True)
    assert torch.allclose(child.weight_quantizer.alpha, other.weight.abs().mean(1), rtol=1e-6, atol=0)


def test_a_binary_checkpoint_without_it_is_incomplete() -> None:
    layer = BinaryLinear(4, 3, scale="learned")
    with pytest.raises(RuntimeError, match=r"weight_quantizer\.alpha"):
        layer.load_state_dict(BinaryLinear(4, 3).state_dict(), strict=True)


def test_the_float_pair_learns_none() -> None:
    with pytest.raises(ValueError, match="learns no scale"):
        Quantizer("fp", "learned")
    with pytest.raises(ValueError, match="learns no scale"):
        BinaryLinear(2, 2, weights="fp", scale="learned")
    model = three_layers()
    before = list(map(type, model))
    with pytest.raises(ValueError, match="learns no scale"):
        pc.binarize(model, {"2": "fp", "*": "bnn"}, scale="learned", keep=None)
    assert list(map(type, model)) == before


def test_a_quantizer_alone_asks_for_its_start() -> None:
    quantizer, latent = Quantizer("bnn", "learned"), torch.randn(3, 4)
    with pytest.raises(RuntimeError, match="call start_scale"):
        quantizer(latent)
    quantizer.start_scale(latent)
    assert quantizer.alpha.shape == (3,)


def odd_scales(layer: BinaryLayer) -> None:
    """A negative, a zero and a large one among the usual."""
    alpha = layer.weight_quantizer.alpha.detach().view(-1)
    alpha[:3] = torch.tensor([-0.7, 0.0, 300.0])


@pytest.mark.covering
@every_kind
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("activations", [None, "bnn"])
def test_negative_and_zero_scales_ship(kind: str, dtype: torch.dtype, activations: str | None, tmp_path: Path) -> None:
    model = nn.Sequential(learned(kind, dtype, activations=activations))
    odd_scales(model[0])
    x = KINDS[kind].input(4, dtype)
    packed = pc.pack(model)
    pc.save(packed, tmp_path / "a")
    loaded = pc.load(tmp_path / "a", nn.Sequential(KINDS[kind].make(4).to(dtype)))
    with torch.no_grad():
        expected = model.eval()(x)
        for answer in (packed(x), loaded(x)):
            assert_ships(answer, expected, signs=activations is not None)
    alphas = model[0].weight_quantizer.alpha.flatten()
    for index, s in zip(channel_indices(model[0]), alphas, strict=True):
        signs = torch.where(model[0].latent[index] < 0, -1.0, 1.0).to(dtype)
        assert torch.equal(loaded[0].weight[index], s * signs)


@every_kind
def test_the_hard_state_dict_has_the_scale_in_its_weights(kind: str) -> None:
    layer, plain = learned(kind, torch.float32), KINDS[kind].make(4)
    odd_scales(layer)
    plain.load_state_dict(pc.hard_state_dict(layer), strict=True)
    x = KINDS[kind].input(4)
    assert torch.equal(plain(x), layer.eval()(x))


@every_kind
@pytest.mark.parametrize("accumulator", [None, Accumulator(8)])
def test_bfloat16_layers_train_and_keep_their_dtype(kind: str, accumulator: Accumulator | None) -> None:
    layer = learned(kind, torch.bfloat16, activations="bnn", accumulator=accumulator)
    x = KINDS[kind].input(4, torch.bfloat16).requires_grad_()
    output = layer(x)
    output.float().square().sum().backward()
    grads: list[Tensor] = [x.grad, layer.latent.grad, layer.weight_quantizer.alpha.grad]
    assert output.dtype == layer.weight_quantizer.alpha.dtype == torch.bfloat16
    assert all(g.dtype == torch.bfloat16 and g.isfinite().all() for g in grads)
    wide = learned(kind, torch.float32, activations="bnn", accumulator=accumulator)
    wide.load_state_dict(layer.state_dict())
    assert torch.allclose(output.float(), wide(x.float()), rtol=0.03, atol=0.03)


def test_a_model_on_the_meta_device_gets_it_from_the_checkpoint() -> None:
    with torch.device("meta"):
        layer = BinaryLinear(4, 3, scale="learned")
    plain = nn.Linear(4, 3)
    layer.load_state_dict(plain.state_dict(), strict=True, assign=True)
    assert torch.allclose(layer.weight_quantizer.alpha, plain.weight.abs().mean(1), rtol=1e-6, atol=0)


def test_resetting_the_parameters_resets_the_scale() -> None:
    layer = BinaryLinear(4, 3, scale="learned")
    layer.weight_quantizer.alpha.detach().fill_(9.0)
    layer.reset_parameters()
    assert torch.allclose(layer.weight_quantizer.alpha, layer.latent.abs().mean(1), rtol=1e-6, atol=0)


def test_compiles_to_one_graph() -> None:
    torch._dynamo.reset()
    layer, x = BinaryLinear(4, 3, scale="learned"), torch.randn(2, 4)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    wanted = list(layer.parameters())
    grads = [torch.autograd.grad(run(x).square().sum(), wanted) for run in (compiled, layer)]
    assert all(torch.allclose(a, b, rtol=1e-5, atol=1e-6) for a, b in zip(*grads, strict=True))


@every_kind
def test_assigned_weights_start_it_anew(kind: str) -> None:
    layer, scale = learned(kind), learned(kind).weight_quantizer.alpha
    layer.weight = 3 * torch.ones_like(layer.latent)
    assert torch.equal(layer.weight_quantizer.alpha, torch.full_like(scale, 3.0))  # type: ignore[arg-type]


def test_a_frozen_layer_gets_a_frozen_scale() -> None:
    layer = BinaryLinear.convert(nn.Linear(4, 4).requires_grad_(False), scale="learned")
    assert not layer.weight_quantizer.alpha.requires_grad  # type: ignore[union-attr]
