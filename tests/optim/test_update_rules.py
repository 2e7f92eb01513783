"""ProxQuant, reverse ProxConnect and post-training quantisation against naive recursions, under all that steps."""

import copy
import gc
import itertools
import math
import pickle
import re
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import linear, mse_loss

from layer_kinds import KINDS, channel_indices
from pairs.published import PUBLISHED, sign
from proxconnect import (
    PAIRS,
    Accumulator,
    BinaryLinear,
    Sharpening,
    UpdateRule,
    binarize_parameter,
    clip_latents,
    full_precision,
    hard,
    hard_state_dict,
    post_training,
    proxquant,
    reverse_proxconnect,
)
from proxconnect.layers.living import RULE

STEPS = 100
SOFT, SHARP = 1.0, 6.0

RULES = {"proxquant": proxquant, "reverse_proxconnect": reverse_proxconnect, "post_training": post_training}
SWITCHES = {"proxquant": (True, True), "reverse_proxconnect": (False, True), "post_training": (False, False)}
"""Whether each quantises forward, and overwrites."""

PROX: dict[str, Callable[[np.ndarray, float], np.ndarray]] = {
    "pc": lambda x, mu: sign(x) * np.minimum(1, 1 - 1 / mu + np.abs(x)),
    "parq": lambda x, mu: np.clip(mu * x, -1, 1),
    "binaryrelax": lambda x, mu: (x + (mu - 1) * sign(x)) / mu,
    "md": lambda x, mu: np.tanh(mu * x),
    "bnn": lambda x, mu: sign(x) * np.maximum(1, np.abs(x)),
    "bnn++": lambda x, mu: x,
}
"""The P of math, by pair."""

OPTIMIZERS: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "SGD": lambda parameters: torch.optim.SGD(parameters, lr=0.02, momentum=0.5, weight_decay=1e-3),
    "AdamW": lambda parameters: torch.optim.AdamW(parameters, lr=0.01, weight_decay=0.1),
}

every_rule = pytest.mark.parametrize("rule", RULES)
overwriting = pytest.mark.parametrize("rule", ["proxquant", "reverse_proxconnect"])

_random = torch.Generator().manual_seed(0)
INPUTS, TARGETS, START = (torch.randn(*n, dtype=torch.float64, generator=_random) for n in ((16, 6), (16, 4), (4, 6)))
START *= 0.4


def layer_of(pair: str = "binaryrelax", scale: Any = "channel", dtype: torch.dtype = torch.float64) -> BinaryLinear:
    layer = BinaryLinear(6, 4, bias=False, dtype=dtype, weights=pair, scale=scale)
    layer.weight = START.to(dtype)
    layer.weight_quantizer.mu.fill_(2.0)
    return layer


def gradient(layer: nn.Module) -> Tensor:
    """Backward, and the loss."""
    loss = mse_loss(layer(INPUTS), TARGETS)
    loss.backward()
    return loss


def sgd(model: nn.Module, **arguments: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), **{"lr": 0.1} | arguments)


def prox_point(latent: Tensor, pair: str = "binaryrelax", axis: int | None = 1) -> Tensor:
    """ᾱ·P(w*/ᾱ) at μ = 2, with ᾱ by `axis`."""
    w = latent.detach().numpy()
    alpha_bar = np.abs(w).mean(axis, keepdims=True)
    return torch.from_numpy(alpha_bar * PROX[pair](w / alpha_bar, 2.0))


def run_library(rule: str, pair: str, scale: Any, optimizer: str) -> list[Tensor]:
    layer = layer_of(pair, scale)
    stepper = OPTIMIZERS[optimizer](layer.parameters())
    RULES[rule](stepper, layer)
    if layer.weight_quantizer.sharpness:
        Sharpening(stepper, layer, steps=STEPS, start=SOFT, end=SHARP, shape="linear")
    latents = []
    for _ in range(STEPS):
        stepper.zero_grad()
        gradient(layer)
        stepper.step()
        latents.append(layer.latent.detach().clone())
    return latents


def run_naively(rule: str, pair: str, scale: Any, optimizer: str) -> list[Tensor]:
    quantises, overwrites = SWITCHES[rule]
    latent, latents = START.clone(), []
    stepper = OPTIMIZERS[optimizer]([latent])
    for t in range(STEPS):
        mu = SOFT + (SHARP - SOFT) * t / STEPS
        w = latent.numpy().copy()
        alpha_bar = np.ones((1, 1)) if scale is None else np.abs(w).mean(1, keepdims=True)
        x = w / alpha_bar
        f, b = PUBLISHED[pair].forward(x, mu), PUBLISHED[pair].backward(x, mu)
        alpha = np.ones((1, 1)) if scale is None else (w * f).sum(1, keepdims=True) / (f * f).sum(1, keepdims=True)
        seen = torch.from_numpy(alpha * f if quantises else w).requires_grad_()
        (g,) = torch.autograd.grad(mse_loss(linear(INPUTS, seen), TARGETS), seen)
        latent.grad = g * torch.from_numpy(b * alpha / alpha_bar) if quantises else g
        if overwrites:
            latent.copy_(torch.from_numpy(alpha_bar * PROX[pair](x, mu)))
        stepper.step()
        latents.append(latent.clone())
    return latents


@pytest.mark.covering
@every_rule
@pytest.mark.parametrize("pair", PROX)
@pytest.mark.parametrize("scale", ["channel", None])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_equals_a_naive_recursion_while_mu_moves(rule: str, pair: str, scale: Any, optimizer: str) -> None:
    ours, naive = (run(rule, pair, scale, optimizer) for run in (run_library, run_naively))
    assert max(float((a - b).abs().max()) for a, b in zip(ours, naive, strict=True)) < 1e-9
    assert len({tuple(w.flatten().tolist()) for w in ours}) > STEPS // 2, "the run stood still"


@pytest.mark.parametrize(("first", "second"), [("post_training", "reverse_proxconnect"), (None, "proxquant")])
def test_rules_that_differ_by_overwriting_alone_agree_where_p_is_the_identity(first: Any, second: str) -> None:
    """To the bit: ᾱ·(w*/ᾱ) would have rounding errors."""
    runs = []
    for rule in (first, second):
        layer = layer_of("bnn++")
        optimizer = OPTIMIZERS["AdamW"](layer.parameters())
        if rule:
            RULES[rule](optimizer, layer)
        for _ in range(5):
            optimizer.zero_grad()
            gradient(layer)
            optimizer.step()
        runs.append(layer.latent.detach().clone())
    assert torch.equal(*runs)
    assert not torch.equal(runs[0], START)


@overwriting
@pytest.mark.parametrize("by_keyword", [False, True])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_closure_changes_nothing(rule: str, by_keyword: bool, optimizer: str) -> None:
    layers = layer_of("md"), layer_of("md")
    steppers = [OPTIMIZERS[optimizer](layer.parameters()) for layer in layers]
    for stepper, layer in zip(steppers, layers, strict=True):
        RULES[rule](stepper, layer)

    def closure() -> Tensor:
        steppers[1].zero_grad()
        return gradient(layers[1])

    for _ in range(5):
        steppers[0].zero_grad()
        loss = gradient(layers[0])
        steppers[0].step()
        assert (steppers[1].step(closure=closure) if by_keyword else steppers[1].step(closure)) == loss
    assert torch.equal(layers[0].latent, layers[1].latent)


@pytest.mark.parametrize("evaluations", [1, 2])
def test_lbfgs_starts_from_the_prox_point_once_a_step_however_often_it_evaluates(evaluations: int) -> None:
    """Its state remembers its last direction d and step size t, and it moves by td once in either case."""
    layer = layer_of()
    optimizer = torch.optim.LBFGS(layer.parameters(), lr=0.5, max_iter=evaluations)
    proxquant(optimizer, layer)
    seen = []

    def closure() -> Tensor:
        optimizer.zero_grad()
        seen.append(layer.latent.detach().clone())
        return gradient(layer)

    for step in range(1, 4):
        before = layer.latent.detach().clone()
        optimizer.step(closure)
        assert len(seen) == step * evaluations
        assert torch.equal(seen[-evaluations], before), "the gradient was not that of the latent before"
        last = optimizer.state[layer.latent]
        expected = prox_point(before) + last["t"] * last["d"].view_as(before)
        torch.testing.assert_close(layer.latent.detach(), expected, rtol=0, atol=1e-12)


def test_a_closure_that_raises_overwrites_nothing() -> None:
    layer = layer_of("md")
    optimizer = sgd(layer)
    proxquant(optimizer, layer)

    def closure() -> Tensor:
        gradient(layer)
        raise RuntimeError("no data")

    with pytest.raises(RuntimeError, match="no data"):
        optimizer.step(closure)
    assert torch.equal(layer.latent, START)


def test_accumulated_gradients_are_all_of_the_latent_before() -> None:
    layer = layer_of()
    optimizer = sgd(layer)
    proxquant(optimizer, layer)
    for half in (0, 1):
        mse_loss(layer(INPUTS[half::2]), TARGETS[half::2]).backward()
        assert torch.equal(layer.latent, START)
    optimizer.step()
    twin = layer_of()
    gradient(twin)
    expected = prox_point(START) - 0.1 * 2 * twin.latent.grad
    torch.testing.assert_close(layer.latent.detach(), expected, rtol=0, atol=1e-12)


@overwriting
def test_a_step_that_grad_scaler_skips_overwrites_nothing(rule: str) -> None:
    layer = layer_of("md")
    optimizer = torch.optim.AdamW(layer.parameters(), fused=True)
    RULES[rule](optimizer, layer)
    gradient(layer)
    optimizer.grad_scale, optimizer.found_inf = torch.tensor(1.0), torch.tensor(1.0)  # as GradScaler does
    optimizer.step()
    assert torch.equal(layer.latent, START)
    optimizer.found_inf.zero_()
    optimizer.step()
    assert (layer.latent - START).abs().max() > 0.1


def test_a_step_that_only_makes_state_overwrites_nothing() -> None:
    """So torch.distributed.checkpoint makes an empty state."""
    layer = layer_of("md")
    optimizer = sgd(layer, lr=0.0)
    proxquant(optimizer, layer)
    gradient(layer)
    optimizer.step(closure=None)
    assert torch.equal(layer.latent, START)
    optimizer.step()
    torch.testing.assert_close(layer.latent.detach(), prox_point(START, "md"), rtol=0, atol=1e-12)


def test_latents_that_the_optimizer_does_not_move_are_not_overwritten() -> None:
    moved, resting, other = layer_of("md"), layer_of("md"), layer_of("md")
    model = nn.ModuleList([moved, resting, other])
    optimizer = sgd(model[:2])
    proxquant(optimizer, model)
    gradient(moved), gradient(other)
    optimizer.step()
    assert not torch.equal(moved.latent, START)
    assert torch.equal(resting.latent, START)
    assert torch.equal(other.latent, START)


def test_a_latent_of_two_layers_is_overwritten_once() -> None:
    first, second = layer_of(), layer_of()
    second.latent = first.latent
    model = nn.ModuleList([first, second])
    optimizer = sgd(model, lr=0.0)
    proxquant(optimizer, model)
    gradient(first)
    optimizer.step()
    torch.testing.assert_close(first.latent.detach(), prox_point(START), rtol=0, atol=1e-12)


@pytest.mark.parametrize("scale", ["tensor", "learned"])
def test_alpha_bar_is_the_mean_magnitude(scale: Any) -> None:
    layer = layer_of("md", scale)
    if scale == "learned":
        with torch.no_grad():
            layer.weight_quantizer.alpha.mul_(3)
    optimizer = sgd(layer, lr=0.0)
    proxquant(optimizer, layer)
    gradient(layer)
    optimizer.step()
    expected = prox_point(START, "md", None if scale == "tensor" else 1)
    torch.testing.assert_close(layer.latent.detach(), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_layer_is_overwritten_channel_by_channel(kind: str) -> None:
    layer: Any = KINDS[kind].binary(4, torch.float64, weights="md")
    layer.weight_quantizer.mu.fill_(2.0)
    before = layer.latent.detach().clone()
    optimizer = sgd(layer, lr=0.0)
    reverse_proxconnect(optimizer, layer)
    layer(KINDS[kind].input(4, torch.float64)).square().sum().backward()
    optimizer.step()
    for index in channel_indices(layer):
        expected = prox_point(before[index].reshape(1, -1), "md")
        torch.testing.assert_close(layer.latent[index].reshape(1, -1), expected, rtol=0, atol=1e-12)


def test_raw_parameters_are_overwritten_by_their_channels() -> None:
    owner = nn.Module()
    owner.experts = nn.Parameter(torch.randn(2, 3, 5, dtype=torch.float64))
    child = binarize_parameter(owner, "experts", "md", channel_dims=(0, 1))
    child.weight_quantizer.mu.fill_(2.0)
    before = child.latent.detach().clone()
    optimizer = sgd(owner, lr=0.0)
    proxquant(optimizer, owner)
    owner.experts.sum().backward()
    optimizer.step()
    expected = prox_point(before.flatten(0, 1), "md").view_as(before)
    torch.testing.assert_close(child.latent.detach(), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("scale", ["channel", None])
def test_overwriting_is_in_place_keeps_the_dtype_and_leaves_zeros(dtype: torch.dtype, scale: Any) -> None:
    layer = layer_of("binaryrelax", scale, dtype)
    layer.weight = START.to(dtype).index_fill(0, torch.tensor([1]), 0.0)
    optimizer = sgd(layer, lr=0.0)
    proxquant(optimizer, layer)
    place, before = layer.latent.data_ptr(), layer.latent.detach().double()
    layer(INPUTS.to(dtype)).sum().backward()
    optimizer.step()
    assert (layer.latent.data_ptr(), layer.latent.dtype) == (place, dtype)
    rows = [0, 2, 3]
    mean = before[rows].abs().mean(1, keepdim=True) if scale else 1.0
    expected = (before[rows] + mean * before[rows].sign()) / 2
    torch.testing.assert_close(layer.latent[rows].double(), expected, rtol=0, atol=2 * torch.finfo(dtype).eps)
    assert torch.equal(layer.latent[1], torch.full((6,), 0.0 if scale else 0.5, dtype=dtype))


@pytest.mark.parametrize("rule_last", [False, True])
def test_composes_with_clip_and_sharpening_in_any_order(rule_last: bool) -> None:
    layer = layer_of()
    optimizer = sgd(layer)
    makers: list[Callable[[], Any]] = [
        lambda: proxquant(optimizer, layer),
        lambda: clip_latents(optimizer, layer, 0.3),
        lambda: Sharpening(optimizer, layer, steps=4, start=2.0, end=8.0),
    ]
    kept = [make() for make in (reversed(makers) if rule_last else makers)]
    assert len(kept) == 3
    gradient(layer)
    g = layer.latent.grad.clone()
    optimizer.step()
    assert float(layer.weight_quantizer.mu) == pytest.approx(2 * math.sqrt(2))
    expected = (prox_point(START) - 0.1 * g).clamp(-0.3, 0.3)
    torch.testing.assert_close(layer.latent.detach(), expected, rtol=0, atol=1e-12)


def test_training_on_latents_is_float_in_train_and_hard_in_eval_and_obeys_the_contexts() -> None:
    layer = layer_of("md")
    rule = post_training(sgd(layer), layer)
    soft, rounded = layer_of("md").weight, layer.binary_weight
    assert torch.equal(layer.weight, layer.latent)
    with hard(layer):
        assert torch.equal(layer.weight, rounded)
    with full_precision(layer.eval()):
        assert torch.equal(layer.weight, layer.latent)
    assert torch.equal(layer.weight, rounded)
    assert torch.equal(hard_state_dict(layer.train())["weight"], rounded)
    rule.remove()
    assert torch.equal(layer.weight, soft)


@pytest.mark.parametrize("again", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))], ids=["deepcopy", "pickle"])
def test_a_copy_of_the_model_is_free_of_the_rule(again: Callable[[nn.Module], Any]) -> None:
    layer = layer_of("md")
    post_training(sgd(layer), layer)
    twin = again(layer)
    assert torch.equal(twin.weight, layer_of("md").weight)
    assert torch.equal(layer.weight, layer.latent)


def test_inputs_stay_binary_and_no_accumulator_acts_on_latents() -> None:
    layer: Any = KINDS["linear"].binary(64, weights="bc", activations="bc", accumulator=Accumulator(2))
    post_training(sgd(layer), layer)
    x = KINDS["linear"].input(64)
    torch.testing.assert_close(layer(x), linear(torch.where(x >= 0, 1.0, -1.0), layer.latent, layer.bias))


@pytest.mark.parametrize(("rule", "pair", "warns"), [
    ("post_training", "bnn++", False), ("post_training", "pc", False), ("reverse_proxconnect", "pc", True),
])  # fmt: skip
def test_eval_warns_of_an_unmoved_mu_where_the_pair_took_part(recwarn: Any, rule: str, pair: str, warns: bool) -> None:
    layer = layer_of(pair)
    optimizer = sgd(layer)
    RULES[rule](optimizer, layer)
    gradient(layer)
    optimizer.step()
    layer.weight_quantizer.mu.fill_(layer.weight_quantizer.sharpness.start)
    layer.eval()
    assert [("nothing moves" in str(warning.message)) for warning in recwarn] == [True] * warns


@every_rule
def test_the_guard_refuses_hard_steps_before_anything_is_overwritten(rule: str) -> None:
    layer = layer_of("md")
    optimizer = sgd(layer)
    RULES[rule](optimizer, layer)
    layer.eval()
    gradient(layer)
    for arguments in ((), (lambda: gradient(layer),)):
        with pytest.raises(RuntimeError, match="would train the latents"):
            optimizer.step(*arguments)
    with hard(layer.train()), pytest.raises(RuntimeError, match="would train the latents"):
        optimizer.step()
    assert torch.equal(layer.latent, START)
    optimizer.zero_grad()
    gradient(layer)
    optimizer.step()
    assert not torch.equal(layer.latent, START)


@every_rule
@pytest.mark.parametrize("load_first", [False, True])
def test_a_saved_state_goes_on_as_unbroken(rule: str, load_first: bool) -> None:
    def steps(layer: BinaryLinear, optimizer: torch.optim.Optimizer, count: int) -> None:
        for _ in range(count):
            optimizer.zero_grad()
            gradient(layer)
            optimizer.step()

    layer = layer_of("md")
    optimizer = OPTIMIZERS["SGD"](layer.parameters())
    RULES[rule](optimizer, layer)
    steps(layer, optimizer, 3)
    saved = pickle.loads(pickle.dumps((layer.state_dict(), optimizer.state_dict())))
    steps(layer, optimizer, 3)

    resumed = layer_of("md")
    optimizer = OPTIMIZERS["SGD"](resumed.parameters())
    if not load_first:
        RULES[rule](optimizer, resumed)
    resumed.load_state_dict(saved[0])
    optimizer.load_state_dict(saved[1])
    if load_first:
        RULES[rule](optimizer, resumed)
    steps(resumed, optimizer, 3)
    assert torch.equal(layer.latent, resumed.latent)


@pytest.mark.parametrize(("rule", "other"), list(itertools.permutations(RULES, 2)))
def test_a_state_of_another_rule_is_refused_and_changes_nothing(rule: str, other: str) -> None:
    its_layer, layer = layer_of("md"), layer_of("md")
    its_optimizer, optimizer = sgd(its_layer, lr=0.5), sgd(layer)
    RULES[other](its_optimizer, its_layer)
    RULES[rule](optimizer, layer)
    with pytest.raises(
        ValueError, match=rf"made by {other}.* by {rule}: call proxconnect\.{other}\(optimizer, model\)"
    ):
        optimizer.load_state_dict(its_optimizer.state_dict())
    assert (optimizer.param_groups[0]["lr"], optimizer.param_groups[0][RULE]) == (0.1, rule)

    optimizer = sgd(layer)
    optimizer.load_state_dict(its_optimizer.state_dict())
    with pytest.raises(ValueError, match=rf"made by {other}: call proxconnect\.{other}\(optimizer, model\)"):
        RULES[rule](optimizer, layer)
    del optimizer.param_groups[0][RULE]
    assert RULES[rule](optimizer, layer).name == rule


def test_a_state_without_a_rule_is_loaded_before_one_is_made() -> None:
    layer = layer_of("md")
    saved, optimizer = sgd(layer).state_dict(), sgd(layer)
    rule = proxquant(optimizer, layer)
    with pytest.raises(ValueError, match=r"without a rule.*load it before proxconnect\.proxquant"):
        optimizer.load_state_dict(saved)
    rule.remove()
    optimizer.load_state_dict(saved)
    proxquant(optimizer, layer)
    assert optimizer.state_dict()["param_groups"][0][RULE] == "proxquant"


@every_rule
def test_a_removed_rule_leaves_pc_plus_plus(rule: str) -> None:
    layer, twin = layer_of("md"), layer_of("md")
    optimizer, its_optimizer = sgd(layer), sgd(twin)
    made = RULES[rule](optimizer, layer)
    made.remove()
    assert RULE not in optimizer.param_groups[0]
    optimizer.load_state_dict(its_optimizer.state_dict())
    for net, stepper in ((layer, optimizer), (twin, its_optimizer)):
        gradient(net)
        stepper.step()
    assert torch.equal(layer.latent, twin.latent)

    second = RULES[rule](optimizer, layer)
    made.remove()
    assert optimizer.param_groups[0][RULE] == second.name
    assert layer.weight_quantizer.trains_latent == (rule != "proxquant")


def test_a_rule_of_a_later_optimizer_is_the_one_that_holds() -> None:
    layer = layer_of("md")
    quantised = layer.weight.detach()
    first = post_training(sgd(layer), layer)
    second = proxquant(sgd(layer), layer)
    assert torch.equal(layer.weight, quantised)
    post_training(sgd(layer), layer)
    first.remove(), second.remove()
    assert torch.equal(layer.weight, layer.latent)


@pytest.mark.parametrize(("first", "second"), list(itertools.product(RULES, RULES)))
def test_two_rules_on_one_optimizer_are_refused(first: str, second: str) -> None:
    layer = layer_of("md")
    optimizer = sgd(layer)
    RULES[first](optimizer, layer)
    with pytest.raises(ValueError, match=rf"already has an update rule, {first}: call its remove"):
        RULES[second](optimizer, layer)
    assert layer.weight_quantizer.trains_latent == (first != "proxquant")


@overwriting
@pytest.mark.parametrize("pair", ["bnn+", "poly", "ede"])
def test_overwriting_is_refused_without_a_prox(rule: str, pair: str) -> None:
    model = nn.Sequential(layer_of("pc"), layer_of(pair))
    optimizer = sgd(model)
    with pytest.raises(ValueError, match=rf"^1: pair '{re.escape(pair)}' solves no prox.*{rule}.*theory\.correct"):
        RULES[rule](optimizer, model)
    assert RULE not in optimizer.param_groups[0]
    post_training(optimizer, model)
    assert torch.equal(model[1].weight, model[1].latent)


@pytest.mark.parametrize("rule", ["reverse_proxconnect", "post_training"])
def test_a_learned_scale_that_nothing_would_train_is_refused(rule: str) -> None:
    layer = layer_of("md", "learned")
    with pytest.raises(ValueError, match=r"learns nothing.*scale='channel'"):
        RULES[rule](sgd(layer), nn.Sequential(layer))


def test_the_fourth_setting_of_the_switches_is_no_rule() -> None:
    layer = layer_of("md")
    with pytest.raises(ValueError, match=r"PC\+\+ itself"):
        UpdateRule(sgd(layer), layer, quantises=True, overwrites=False)
    with pytest.raises(ValueError, match="binarize"):
        proxquant(sgd(nn.Linear(2, 2)), nn.Linear(2, 2))


@pytest.mark.parametrize("pair", PAIRS)
def test_post_training_takes_every_pair(pair: str) -> None:
    layer = layer_of(pair)
    post_training(sgd(layer), layer)
    assert torch.equal(layer.weight, layer.latent)


def test_a_rule_does_not_keep_its_optimizer_alive() -> None:
    layer = layer_of("md")
    optimizer = sgd(layer)
    proxquant(optimizer, layer)
    gradient(layer)
    optimizer.step()
    alive = weakref.ref(optimizer)
    del optimizer
    gc.collect()
    assert alive() is None
