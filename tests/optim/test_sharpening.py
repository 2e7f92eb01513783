"""The schedule of μ: its shapes in closed form, and its count under everything that steps an optimizer."""

import copy
import gc
import math
import weakref

import pytest
import torch
from torch import nn

from proxconnect.layers import BinaryLinear
from proxconnect.optim.sharpening import Sharpening


def network(weights="bnn++", activations=None, scale="channel"):
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(6, 8),
        BinaryLinear(8, 8, weights=weights, activations=activations, scale=scale),
        BinaryLinear(8, 3, weights="bc", scale=scale),
    )


def network_and_sgd(*choices, **named):
    model = network(*choices, **named)
    return model, torch.optim.SGD(model.parameters(), lr=0.1)


def step(model, optimizer, times=1):
    for _ in range(times):
        optimizer.zero_grad()
        model(torch.randn(4, 6)).square().mean().backward()
        optimizer.step()


def mu(model, part="weight_quantizer"):
    return float(getattr(model[1], part).mu)


CLOSED_FORMS = {
    "exponential": lambda start, end, p: math.exp((1 - p) * math.log(start) + p * math.log(end)),
    "linear": lambda start, end, p: (1 - p) * start + p * end,
    "cosine": lambda start, end, p: end + (start - end) * math.cos(math.pi * p / 2) ** 2,
}


@pytest.mark.parametrize("shape", CLOSED_FORMS)
def test_shape_equals_its_closed_form_and_holds_its_end(shape):
    model, optimizer = network_and_sgd()
    Sharpening(optimizer, model, steps=10, start=0.5, end=20.0, shape=shape, hold=3)
    for t in range(14):
        expected = CLOSED_FORMS[shape](0.5, 20.0, min(1.0, t / 7))
        assert mu(model) == pytest.approx(expected, rel=1e-6)
        step(model, optimizer)


def test_it_shows_itself_and_tells_the_least_mu():
    model, optimizer = network_and_sgd(weights="bnn++", activations="bnn+")
    sharpening = Sharpening(optimizer, model, steps=10, start=1.0, end=10.0, part="both")
    step(model, optimizer, times=5)
    assert sharpening.mu == mu(model) == pytest.approx(10**0.5)
    assert repr(sharpening) == "<Sharpening of both: exponential, step 5 of 10, μ = 3.16>"
    with torch.no_grad():
        model[1].input_quantizer.mu.fill_(2.0)
    assert sharpening.mu == 2.0
    model, optimizer = network_and_sgd(weights="bc")
    sharpening = Sharpening(optimizer, model, steps=3)
    assert sharpening.mu is None
    assert repr(sharpening) == "<Sharpening of weights: exponential, step 0 of 3>"


def test_constant_stays_at_its_start():
    model, optimizer = network_and_sgd()
    Sharpening(optimizer, model, start=4.0, shape="constant")
    step(model, optimizer, 5)
    assert mu(model) == 4.0


def test_cumulative_adds_the_learning_rates_of_the_latents_own_group():
    model = network()
    optimizer = torch.optim.SGD(
        [{"params": model[0].parameters(), "lr": 5.0}, {"params": model[1:].parameters(), "lr": 0.25}]
    )
    rates = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
    Sharpening(optimizer, model, shape="cumulative")
    total = 0.0
    for _ in range(4):
        total += optimizer.param_groups[1]["lr"]
        step(model, optimizer)
        rates.step()
        assert mu(model) == pytest.approx(1 + total)


def test_cumulative_stops_at_its_end():
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    Sharpening(optimizer, model, shape="cumulative", end=2.5)
    step(model, optimizer, 5)
    assert mu(model) == 2.5


def test_usual_range_depends_on_the_scale():
    ends = {}
    for scale in ("channel", None):
        model = network(scale=scale)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
        Sharpening(optimizer, model, steps=2)
        begin = mu(model)
        step(model, optimizer, 2)
        ends[scale] = (begin, mu(model))
    assert ends["channel"] == pytest.approx((0.1, 30))
    assert ends[None] == pytest.approx((1, 300))


@pytest.mark.parametrize(
    ("pair", "arguments", "first", "last"),
    [
        ("bnn+", {"steps": 4}, 1, 1),
        ("bnn+", {"steps": 4, "hold": 1, "shape": "cosine"}, 1, 1),
        ("bnn+", {"shape": "constant"}, 1, 1),
        ("bnn+", {"shape": "cumulative"}, 1, 1),
        ("bnn+", {"shape": "constant", "start": 5.0}, 5, 5),
        ("bnn+", {"steps": 4, "end": 10.0}, 0.1, 10),
        ("bnn+", {"steps": 4, "start": 0.5}, 0.5, 30),
        ("bnn+", {"shape": "cumulative", "end": 1.5}, 1, 1.4),  # four steps at 0.1
        ("erf", {"steps": 4}, 1, 1),
        ("ede", {"steps": 4}, 0.1, 10),
        ("bnn++", {"steps": 4}, 0.1, 30),
    ],
)
def test_a_fixed_pair_moves_only_if_a_start_or_an_end_is_named(pair, arguments, first, last):
    model, optimizer = network_and_sgd(pair)
    Sharpening(optimizer, model, **arguments)
    assert mu(model) == pytest.approx(first)
    step(model, optimizer, 4)
    assert mu(model) == pytest.approx(last)


def test_a_fixed_pair_has_its_mu_without_a_schedule():
    model = network("bnn+", activations="bnn+")
    assert mu(model) == mu(model, "input_quantizer") == 1
    assert mu(network("bnn+", scale=None)) == pytest.approx(10)  # raw latents are ten times smaller


def test_part_says_which_pairs_move():
    for part, moved in (
        ("weights", {"weight_quantizer"}),
        ("activations", {"input_quantizer"}),
        ("both", {"weight_quantizer", "input_quantizer"}),
    ):
        model = network(activations="poly+")
        before = {q: mu(model, q) for q in ("weight_quantizer", "input_quantizer")}
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        Sharpening(optimizer, model, steps=4, part=part)
        step(model, optimizer)
        assert {q for q, value in before.items() if mu(model, q) != value} == moved


def test_gradient_accumulation_and_closures_count_once():
    model = network()
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=6)
    sharpening = Sharpening(optimizer, model, steps=10)
    seen = set()

    def closure():
        seen.add(mu(model))
        optimizer.zero_grad()
        loss = model(torch.ones(4, 6)).square().mean()
        loss.backward()
        return loss

    optimizer.step(closure)
    assert sharpening.step_count == 1
    assert len(seen) == 1


class InfiniteGradient(nn.Module):
    """A loss whose scaled gradient overflows on demand."""

    def __init__(self, model):
        super().__init__()
        self.model, self.factor = model, 1.0

    def forward(self, x):
        return self.model(x).square().mean() * self.factor


@pytest.mark.parametrize("shape", ["exponential", "linear", "cosine", "constant", "cumulative"])
@pytest.mark.parametrize("fused", [False, True])
def test_steps_that_grad_scaler_skips_do_not_count(fused, shape):
    model = network()
    loss = InfiniteGradient(model)
    optimizer = torch.optim.AdamW(model.parameters(), fused=fused)
    options = {"steps": None if shape in ("constant", "cumulative") else 10, "start": 0.5, "shape": shape}
    sharpening = Sharpening(optimizer, model, **options)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0)
    counts, plain = [], network()
    its_optimizer = torch.optim.AdamW(plain.parameters())
    Sharpening(its_optimizer, plain, **options)
    for factor in (1.0, math.inf, 1.0):
        loss.factor = factor
        optimizer.zero_grad()
        latent = model[1].latent.clone()
        scaler.scale(loss(torch.ones(4, 6))).backward()
        scaler.step(optimizer)
        scaler.update()
        assert torch.equal(latent, model[1].latent) == math.isinf(factor)
        counts.append(sharpening.step_count)
    assert counts == [1, 1, 2]
    step(plain, its_optimizer, 2)
    assert mu(model) == pytest.approx(mu(plain), rel=1e-6)
    assert sharpening.progress == pytest.approx(0.0 if options["steps"] is None else 0.2)
    group, its_group = (o.state_dict()["param_groups"][0] for o in (optimizer, its_optimizer))
    assert {key: (type(value), value) for key, value in group.items() if key.startswith("sharpening")} == {
        key: (type(value), pytest.approx(value)) for key, value in its_group.items() if key.startswith("sharpening")
    }


def test_a_captured_step_is_refused(monkeypatch):
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    sharpening = Sharpening(optimizer, model, steps=10)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    with pytest.raises(RuntimeError, match="would repeat one value of μ"):
        optimizer.step()
    assert sharpening.step_count == 0


def test_loading_the_optimizer_resumes_mu_whichever_comes_first():
    model = network()
    optimizer = torch.optim.AdamW(model.parameters())
    Sharpening(optimizer, model, steps=10)
    step(model, optimizer, 4)
    saved, at_four = copy.deepcopy(optimizer.state_dict()), mu(model)
    step(model, optimizer)
    at_five = mu(model)

    optimizer.load_state_dict(saved)
    assert mu(model) == at_four
    for load_first in (True, False):
        fresh = network()
        optimizer = torch.optim.AdamW(fresh.parameters())
        if load_first:
            optimizer.load_state_dict(saved)
        Sharpening(optimizer, fresh, steps=10)
        if not load_first:
            optimizer.load_state_dict(saved)
        assert mu(fresh) == at_four
        step(fresh, optimizer)
        assert mu(fresh) == at_five


def test_two_optimizers_move_their_own_layers():
    model = network("pc")
    first = torch.optim.SGD(model[1].parameters(), lr=0.1)
    second = torch.optim.SGD(model[2].parameters(), lr=0.1)
    Sharpening(first, model, steps=4)
    Sharpening(second, model, steps=4)
    model(torch.ones(2, 6)).sum().backward()
    second.step()
    assert mu(model) == 1.0
    first.step()
    assert mu(model) > 1.0


def test_removed_schedule_leaves_mu_where_it_is():
    model, optimizer = network_and_sgd()
    sharpening = Sharpening(optimizer, model, steps=4)
    step(model, optimizer)
    reached = mu(model)
    sharpening.remove()
    step(model, optimizer)
    assert mu(model) == reached

    second = Sharpening(optimizer, model, steps=4)
    sharpening.remove()
    assert second.step_count == 0
    with pytest.raises(ValueError, match="remove"):
        Sharpening(optimizer, model, steps=4)


def test_a_schedule_does_not_keep_its_optimizer_alive():
    model, optimizer = network_and_sgd()
    Sharpening(optimizer, model, steps=4)
    step(model, optimizer)
    alive = weakref.ref(optimizer)
    del optimizer
    gc.collect()
    assert alive() is None


def test_a_soft_pair_that_nothing_moves_warns_when_it_is_hardened():
    model, optimizer = network_and_sgd(activations="poly+")
    Sharpening(optimizer, model, steps=4)
    step(model, optimizer)
    with pytest.warns(UserWarning, match="part='activations'"):
        model.eval()


def test_the_warning_does_not_need_the_gradient_and_a_copy_has_no_schedule():
    model, optimizer = network_and_sgd()
    Sharpening(optimizer, model, steps=400)
    model = copy.deepcopy(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    step(model, optimizer)
    optimizer.zero_grad()
    with pytest.warns(UserWarning, match="part='weights'"):
        model.eval()


def test_an_untrained_soft_pair_does_not_warn(recwarn):
    network().eval()
    assert not recwarn


def test_mu_is_as_precise_as_the_latent():
    layer = BinaryLinear(3, 3, dtype=torch.float64)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    Sharpening(optimizer, layer, steps=7, start=0.5, end=5.0)
    layer(torch.ones(1, 3, dtype=torch.float64)).sum().backward()
    optimizer.step()
    assert float(layer.weight_quantizer.mu) == pytest.approx(0.5 * 10 ** (1 / 7), rel=1e-15)
    assert BinaryLinear(3, 3, dtype=torch.bfloat16).weight_quantizer.mu.dtype == torch.float32


def test_a_model_binarized_in_inference_mode_can_be_scheduled():
    model = nn.Sequential(nn.Linear(4, 4))
    with torch.inference_mode():
        BinaryLinear.convert(model[0])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    assert Sharpening(optimizer, model, steps=4).progress == 0


@pytest.mark.parametrize("swapped", [True, False])
def test_wrong_kinds_of_arguments_are_told(swapped):
    model, optimizer = network_and_sgd()
    arguments = (model, optimizer) if swapped else (optimizer, "model")
    with pytest.raises(TypeError, match="optimizer is needed first" if swapped else "takes an nn.Module"):
        Sharpening(*arguments, steps=4)


def test_a_model_on_the_meta_device_is_told_to_come_down():
    model = BinaryLinear(3, 3, device="meta")
    with pytest.raises(ValueError, match="materialise"):
        Sharpening(torch.optim.SGD(model.parameters(), lr=0.1), model, steps=4)


def test_a_scheduled_pair_does_not_warn(recwarn):
    model, optimizer = network_and_sgd()
    Sharpening(optimizer, model, steps=4)
    step(model, optimizer)
    model.eval()
    assert not recwarn


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"steps": None}, "needs steps="),
        ({"steps": 0}, "steps must be at least 1; got 0"),
        ({"steps": 2.5}, "steps takes a whole number; got 2.5"),
        ({"steps": 4, "hold": 1.5}, "hold takes a whole number; got 1.5"),
        ({"steps": 4, "hold": 4}, "hold must be"),
        ({"steps": 4, "shape": "exp"}, "known are exponential"),
        ({"steps": 4, "part": "bias"}, "known are weights"),
        ({"end": 2.0, "shape": "constant"}, "no end"),
        ({"steps": 5, "hold": 5, "shape": "constant"}, "neither steps nor hold"),
        ({"hold": 1, "shape": "cumulative"}, "neither steps nor hold"),
        ({"steps": 4, "start": -1.0}, "μ > 0"),
        ({"steps": 4, "end": math.nan}, "μ > 0"),
        ({"steps": 4, "start": math.inf}, "finite"),
        ({"steps": 4, "end": math.inf}, "finite"),
        ({"end": math.inf, "shape": "cumulative"}, "finite"),
        ({"steps": 4, "part": "activations"}, "no layer has binary activations"),
    ],
)
def test_bad_arguments_say_what_to_do(arguments, message):
    model, optimizer = network_and_sgd()
    with pytest.raises((TypeError, ValueError), match=message):
        Sharpening(optimizer, model, **arguments)


def test_mu_outside_the_domain_names_the_layer_and_the_pair():
    model, optimizer = network_and_sgd("pc")
    with pytest.raises(ValueError, match=r"1: pair 'pc' needs a finite sharpness μ >= 1"):
        Sharpening(optimizer, model, steps=4, start=0.1)


def test_model_without_binary_layers_names_the_missing_call():
    model = nn.Linear(3, 3)
    with pytest.raises(ValueError, match="binarize"):
        Sharpening(torch.optim.SGD(model.parameters(), lr=0.1), model, steps=4)


def test_optimizer_without_the_latents_is_refused():
    model = network()
    optimizer = torch.optim.SGD(model[0].parameters(), lr=0.1)
    with pytest.raises(ValueError, match="holds none of the 2 latents"):
        Sharpening(optimizer, model, steps=4)


def test_a_second_schedule_of_the_same_part_is_refused():
    model, optimizer = network_and_sgd()
    Sharpening(optimizer, model, steps=4)
    with pytest.raises(ValueError, match="remove"):
        Sharpening(optimizer, model, steps=4)
