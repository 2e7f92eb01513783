"""NaN and infinity in one step of training: quantizers pass them on, optimizers lose the latent, meters count them."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import proxconnect as pc
from looped import looped
from proxconnect import PAIRS, BinaryLinear, Meters, Quantizer
from spoiled import BAD, INF, NAN, spoiled

QUANTIZED = [name for name in PAIRS if name != "fp"]

each_number = pytest.mark.parametrize("number", BAD.values(), ids=BAD)
each_pair = pytest.mark.parametrize("pair", QUANTIZED)
each_scale = looped(scale=["channel", "tensor", "learned", None])


def latents() -> Tensor:
    return torch.randn(3, 40)


def quantizer(pair: str, scale: str | None) -> tuple[Quantizer, Tensor]:
    made, latent = Quantizer(pair, scale), latents()
    made.start_scale(latent)
    return made, latent.requires_grad_()


@each_pair
@each_scale
@pytest.mark.parametrize("way", ["kernels", "torch"])
def test_a_latent_that_is_nan_is_nan_in_every_mode_and_spoils_its_scale_alone(way, scale, pair, request):
    if way == "torch":
        request.getfixturevalue("by_torch")
    made, latent = quantizer(pair, scale)
    clean = made(latent).detach()
    with spoiled(latent, NAN):
        soft, hard = made(latent), made.hard(latent)
        soft.sum().backward()
    for weight in (soft, hard):
        assert weight[0, 0].isnan()
        if scale in ("channel", "tensor"):
            assert weight[0].isnan().all()
        others = weight[1:]
        assert (others.isnan() if scale == "tensor" else others.isfinite()).all()
    if scale != "tensor":
        torch.testing.assert_close(soft[1:], clean[1:])
        assert latent.grad[1:].isfinite().all()


@each_pair
@each_scale
@pytest.mark.parametrize("way", ["kernels", "torch"])
def test_an_infinite_latent_is_lost_where_it_makes_a_scale_and_else_keeps_its_sign(way, scale, pair, request):
    if way == "torch":
        request.getfixturevalue("by_torch")
    for number in (INF, -INF):
        made, latent = quantizer(pair, scale)
        with spoiled(latent, number):
            soft, hard = made(latent).detach(), made.hard(latent)
        if scale in ("channel", "tensor"):
            assert not soft[0].isfinite().any()
            assert not hard[0].isfinite().any()
        else:
            assert hard[0, 0] * number > 0
            assert soft[0, 0] * number > 0 or (scale == "learned" and soft[0, 0].isnan())


@each_pair
@each_scale
@pytest.mark.parametrize("way", ["kernels", "torch"])
def test_a_gradient_that_is_lost_stays_so_where_b_is_0_too(way, scale, pair, request):
    if way == "torch":
        request.getfixturevalue("by_torch")
    for number in BAD.values():
        made, latent = quantizer(pair, scale)
        gradient = torch.ones(latent.shape)
        gradient[0] = number
        made(latent).backward(gradient)
        assert not latent.grad[0].isfinite().any(), number
        assert latent.grad[1:].isfinite().all(), number


Step = Callable[[nn.Module], torch.optim.Optimizer]


def clipped(model: nn.Module) -> torch.optim.Optimizer:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    pc.clip_latents(optimizer, model)
    return optimizer


def by_rule(rule: Callable[[torch.optim.Optimizer, nn.Module], object]) -> Step:
    def made(model: nn.Module) -> torch.optim.Optimizer:
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        rule(optimizer, model)
        return optimizer

    return made


STEPS: dict[str, Step] = {
    "sgd": lambda model: torch.optim.SGD(model.parameters(), lr=0.1),
    "adam": lambda model: torch.optim.Adam(model.parameters()),
    "bop": lambda model: pc.Bop(model.parameters()),
    "clipped": clipped,
    "proxquant": by_rule(pc.proxquant),
    "reverse": by_rule(pc.reverse_proxconnect),
    "ptq": by_rule(pc.post_training),
}


@each_number
@looped(scale=["channel", None])
@pytest.mark.parametrize("step", STEPS)
def test_a_step_by_a_lost_gradient_loses_the_latent_and_is_counted(step, scale, number):
    model = nn.Sequential(BinaryLinear(8, 4, weights="bc", scale=scale))
    meters, optimizer = Meters(model), STEPS[step](model)
    for _ in range(2):  # the second takes up what the first left
        model[0].latent.grad = torch.zeros(4, 8)
        model[0].latent.grad[0, 0] = number
        optimizer.step()
        assert not model[0].latent[0, 0].isfinite()
        assert model[0].latent[1:].isfinite().all()
        health = read(meters)
        assert health.gradient_nonfinite_share == 1 / 32
        assert 1 / 32 <= health.nonfinite_share <= 1 / 4
    assert "Latents of the only binary layer are NaN" in told(meters)
    with pytest.raises(ValueError, match="latent` has NaN or infinite entries"):
        pc.pack(model)


def read(meters: Meters) -> pc.inspection.LayerHealth:
    meters.read()
    return next(iter(meters.layers().values()))


def told(meters: Meters) -> str:
    return "\n".join(map(str, pc.diagnose(meters.layers())))


@each_number
def test_a_gradient_that_is_not_finite_is_told_before_it_is_stepped(number):
    model = nn.Sequential(BinaryLinear(8, 4))
    meters = Meters(model)
    assert read(meters).gradient_nonfinite_share is None
    model(torch.ones(2, 8)).sum().backward()
    assert read(meters).gradient_nonfinite_share == 0
    assert "Gradients" not in told(meters)
    model[0].latent.grad[1, 2] = number
    assert read(meters).gradient_nonfinite_share == 1 / 32
    assert "Gradients of the only binary layer are NaN or infinite" in told(meters)


@each_number
def test_an_input_of_signs_that_is_not_finite_is_counted(number):
    model = nn.Sequential(BinaryLinear(8, 4, activations="bnn+"))
    meters, x = Meters(model), torch.randn(4, 8)
    model(x)
    assert read(meters).input_nonfinite_share == 0
    x[1, 2] = number
    model(x)
    assert read(meters).input_nonfinite_share == 1 / 32
    assert "Inputs of the only binary layer are NaN or infinite" in told(meters)


def test_one_of_many_is_counted():
    """4097² weights are more than float32 has digits for."""
    model = nn.Sequential(BinaryLinear(4097, 4097, weights="bc", scale=None, dtype=torch.bfloat16))
    meters = Meters(model)
    model[0].latent.grad = torch.zeros_like(model[0].latent)
    with spoiled(model[0].latent, NAN), spoiled(model[0].latent.grad, INF):
        health = read(meters)
    assert health.nonfinite_share == pytest.approx(1 / 4097**2)
    assert health.gradient_nonfinite_share == pytest.approx(1 / 4097**2)


@each_number
def test_a_sharpness_that_is_no_number_is_refused_where_a_mode_begins_and_where_it_is_loaded(number):
    model = BinaryLinear(8, 4)
    state = model.state_dict()
    state["weight_quantizer.mu"] = torch.tensor(number)
    with pytest.raises(RuntimeError, match=r"weight_quantizer\.mu, of pair 'bnn\+\+'"):
        model.load_state_dict(state)
    model.weight_quantizer.mu.fill_(number)
    for begin in (model.train, model.eval):
        with pytest.raises(ValueError, match="never initialised"):
            begin()


@each_pair
def test_a_sharpness_that_is_nan_makes_nan_of_every_weight_that_depends_on_it(pair):
    made, latent = quantizer(pair, "channel")
    soft = made(latent)
    made.mu.fill_(NAN)
    lost = made(latent)
    if made.sharpness is not None and not made.pair.is_sign:
        assert lost.isnan().all()
    else:
        torch.testing.assert_close(lost, soft)


@each_number
def test_a_learned_scale_that_is_lost_reaches_the_weights_of_its_channel_and_is_not_packed(number):
    layer = BinaryLinear(8, 4, scale="learned")
    with spoiled(layer.weight_quantizer.alpha, number):
        for weight in (layer.weight, layer.binary_weight):
            assert not weight[0].isfinite().any()
            assert weight[1:].isfinite().all()
        with pytest.raises(ValueError, match="its scale is NaN, or overflows"):
            pc.pack(layer)


@each_number
def test_batches_that_are_not_finite_leave_the_statistics_as_they_were(number):
    model = pc.binarize(nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 4)), keep=None)
    before, x = model[1].running_mean.clone(), torch.randn(6, 4)
    x[1, 2] = number
    with pytest.raises(ValueError, match=r"1\.running_mean became NaN or infinite"):
        pc.reestimate_batchnorm(model, [x])
    assert torch.equal(model[1].running_mean, before)
