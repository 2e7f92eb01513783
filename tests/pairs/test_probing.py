"""A pair of one's own is tried before a network rests on it, and errors name the pair."""

import math
import time

import pytest
import torch
from torch import Tensor, nn

import proxconnect as pc
from proxconnect import PAIRS, Heuristic, Pair, Quantizer
from proxconnect.pairs import SURROGATES, Sharpness, Transform, prox, transform
from proxconnect.pairs.probing import require_sound

LEARNED = torch.ones((), requires_grad=True)


def sign(x: Tensor, mu: Tensor) -> Tensor:
    return x.sign()


def one(x: Tensor, mu: Tensor) -> Tensor:
    return torch.ones_like(x)


def nothing(x: Tensor, mu: Tensor) -> None:
    torch.ones_like(x)


def naive_tanh(x: Tensor, mu: Tensor) -> Tensor:
    growth = torch.exp(2 * mu * x)
    return (growth - 1) / (growth + 1)


class Steep(Transform):
    """A clip whose derivative is 2, although it says that it is 0 or 1."""

    slope = "indicator"

    def __call__(self, p: Tensor, mu: float | Tensor) -> Tensor:
        return (2 * p).clamp(-1, 1)

    def derivative(self, p: Tensor, mu: float | Tensor) -> Tensor:
        return 2.0 * (p.abs() <= 0.5)


UNSOUND = {
    "B returns None": (sign, nothing, r"B\(x, mu\) of pair 'mine' must return a tensor; got NoneType"),
    "F returns None": (nothing, one, r"F\(x, mu\) of pair 'mine' must return a tensor; got NoneType"),
    "B is a number": (sign, lambda x, mu: 1.0, "must return a tensor; got float"),
    "F in place": (lambda x, mu: x.sign_(), one, r"F\(x, mu\).* changes the tensor that it is given"),
    "B in place": (sign, lambda x, mu: x.abs_(), r"B\(x, mu\).* changes the tensor that it is given"),
    "F sums": (lambda x, mu: x.sum(), one, r"F\(x, mu\).* must keep the shape of its input: got \(\) for \(2, 4\)"),
    "F over the mean": (lambda x, mu: x / x.abs().mean(), one, "mixes entries.*a mean.* belongs into the scale"),
    "F over the row": (lambda x, mu: x - x.mean(-1, keepdim=True), one, "mixes entries"),
    "B accumulates": (sign, lambda x, mu: x.cumsum(0), r"B\(x, mu\).* mixes entries"),
    "F of booleans": (lambda x, mu: x > 0, one, "must keep the dtype of its input: got torch.bool"),
    "F of float64": (lambda x, mu: x.double(), one, "got torch.float64 for torch.float32"),
    "B elsewhere": (sign, lambda x, mu: x.to("meta"), "must stay on the device of its input: got meta for cpu"),
    "F is NaN at 0": (lambda x, mu: x / x.abs(), one, "not finite at x = 0, mu = 1: write it in a form"),
    "B is infinite at 0": (sign, lambda x, mu: 1 / x.abs(), r"B\(x, mu\) of pair 'mine' is not finite at x = 0"),
    "F overflows in the end": (naive_tanh, one, "not finite at x = 3, mu = 30"),
    "one argument": (torch.sign, one, r"F\(x, mu\) of pair 'mine' raised TypeError for a float32 tensor of shape"),
    "F raises": (lambda x, mu: x @ x, one, r"F\(x, mu\) of pair 'mine' raised RuntimeError"),
    "F learns": (
        lambda x, mu: LEARNED * x.sign(),
        one,
        "depends on tensors that require gradients, which would get no",
    ),
}


@pytest.mark.parametrize("case", UNSOUND)
def test_an_unsound_pair_is_refused_and_named(case):
    forward, backward, message = UNSOUND[case]
    mine = Heuristic("mine", forward, backward, Sharpness(start=1.0, end=30.0))
    with pytest.raises(ValueError, match=message):
        Quantizer(mine)


def of_nothing() -> Heuristic:
    return Heuristic("mine", sign, nothing)


def net() -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 2))


DOORS = {
    "plan": lambda: pc.plan(net(), of_nothing()),
    "binarize": lambda: pc.binarize(net(), of_nothing()),
    "binarize, inputs": lambda: pc.binarize(net(), "bnn", {"1": of_nothing()}),
    "plan, inputs": lambda: pc.plan(net(), "bnn", of_nothing()),
    "a layer": lambda: pc.BinaryLinear(4, 4, weights=of_nothing()),
    "a layer's inputs": lambda: pc.BinaryConv2d(4, 4, 3, activations=of_nothing()),
    "a parameter": lambda: pc.binarize_parameter(net()[0], "weight", of_nothing()),
    "at a sharpness": lambda: Quantizer(Heuristic("mine", sign, nothing, Sharpness()).at(1.0)),
    "on the meta device": lambda: pc.BinaryLinear(4, 4, device="meta", weights=of_nothing()),
}


@pytest.mark.parametrize("door", DOORS)
def test_every_door_tries_the_pair(door):
    with pytest.raises(ValueError, match=r"B\(x, mu\) of pair 'mine(@1)?' must return a tensor; got NoneType"):
        DOORS[door]()


def test_a_slope_that_its_transform_lacks_is_refused():
    with pytest.raises(ValueError, match="B of pair 'steep' is not what the slope 'indicator' of its transform says"):
        Quantizer(Pair("steep", transform=Steep()))


SOUND = {
    "straight through": Heuristic("ste", sign, one),
    "random": Heuristic("stochastic", lambda x, mu: (x + torch.rand_like(x) - 0.5).sign(), one),
    "hard at 0": Heuristic("step", lambda x, mu: torch.where(x < 0, -1.0, 1.0), lambda x, mu: torch.exp(-x * x)),
    "ternary": Heuristic("ternary", lambda x, mu: x.round().clamp(-1, 1), one),
    "parts": Pair("parts", prox=prox.parq, transform=transform.hardtanh),
    **{f"{name} fixed": pair.at(pair.sharpness.end) for name, pair in (PAIRS | SURROGATES).items() if pair.sharpness},
    **{f"{name} copied": Heuristic(name, pair.forward, pair.backward, pair.sharpness) for name, pair in PAIRS.items()
       if pair.sharpness},
}  # fmt: skip


@pytest.mark.parametrize("name", SOUND)
def test_a_sound_pair_is_taken(name):
    with torch.device("meta"):
        Quantizer(SOUND[name])


def test_a_random_pair_is_taken_whatever_it_draws():
    for seed in range(30):
        torch.manual_seed(seed)
        state = torch.get_rng_state()
        require_sound(Heuristic("stochastic", SOUND["random"].forward_map, one))
        assert torch.equal(torch.get_rng_state(), state), "a run draws what it drew before"


def test_a_pair_is_tried_once_and_quickly():
    calls = []

    def counted(x: Tensor, mu: Tensor) -> Tensor:
        calls.append(x)
        return x.sign()

    mine = Heuristic("mine", counted, one)
    pc.binarize(net(), mine, mine, keep=None)
    tried = len(calls)
    assert 0 < tried < 10
    pc.binarize(net(), mine, mine, keep=None)
    assert len(calls) == tried
    begun = time.perf_counter()
    for pair in (PAIRS | SURROGATES).values():
        require_sound(pair)
    assert time.perf_counter() - begun < 0.01, "the catalogue is not tried"


def test_numbers_are_checked_where_training_begins_and_ends():
    with pytest.raises(ValueError, match="not finite at x = 3, mu = 30"):
        require_sound(Heuristic("tanh", naive_tanh, one, Sharpness(start=1.0, end=30.0)))
    require_sound(Heuristic("tanh", naive_tanh, one, Sharpness(start=1.0, end=10.0)))
    assert math.isfinite(float(naive_tanh(torch.tensor(3.0), torch.tensor(10.0))))
