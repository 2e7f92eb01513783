"""Callables that are no functions of one real variable are refused, with words that say what to do."""

import copy
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from proxconnect.theory import ProbeError, correct, decompose

Map = Callable[[Tensor], Tensor]


def identity(x: Tensor) -> Tensor:
    return x


class Counter:
    """Gives another answer at each call."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, x: Tensor) -> Tensor:
        self.calls += 1
        return x + self.calls


class Remembering:
    """Gives what it was first asked for, and 0 elsewhere."""

    def __init__(self) -> None:
        self.known: set[float] = set()

    def __call__(self, x: Tensor) -> Tensor:
        new = [value not in self.known for value in x.flatten().tolist()]
        self.known.update(x.flatten().tolist())
        return torch.tensor(new, dtype=x.dtype).reshape(x.shape)


def overwriting(x: Tensor) -> Tensor:
    return x.mul_(2)


def raising(x: Tensor) -> Tensor:
    raise RuntimeError("the matrix is singular")


def half_line(x: Tensor) -> Tensor:
    """NaN below -2."""
    return torch.where(x < -2, math.nan, x)


WRONG: dict[str, tuple[Map, str]] = {
    "minus the mean": (lambda x: x - x.mean(), r"mixes entries.*each entry by itself.*belongs into the scale"),
    "over the norm": (lambda x: x / x.norm(), r"mixes entries"),
    "over the largest": (lambda x: x / x.abs().amax(-1, keepdim=True), r"mixes entries"),
    "softmax": (lambda x: torch.softmax(x, -1), r"mixes entries"),
    "sorted": (lambda x: x.sort(-1).values, r"mixes entries"),
    "summed up": (lambda x: x.cumsum(-1), r"mixes entries"),
    "rolled": (lambda x: x.roll(1), r"mixes entries"),
    "a sum": (lambda x: x.sum(), r"must keep the shape of its input: got \(\) for \(120,\)"),
    "a column more": (lambda x: torch.stack([x, x], -1), r"must keep the shape of its input: got \(120, 2\)"),
    "flattened": (lambda x: x.flatten(), r"must keep the shape of its input: got \(120,\) for \(8, 15\)"),
    "float32": (lambda x: x.float(), r"must keep the dtype.*torch.float32 for torch.float64; return \.to\(x\.dtype\)"),
    "booleans": (lambda x: x > 0, r"must keep the dtype.*torch.bool"),
    "integers": (lambda x: x.sign().long(), r"must keep the dtype.*torch.int64"),
    "a list": (lambda x: x.tolist(), r"must return a tensor; got list"),
    "an array": (lambda x: x.numpy(), r"must return a tensor; got ndarray"),
    "nothing": (lambda x: None, r"must return a tensor; got NoneType"),  # type: ignore[dict-item,return-value]  # wrong
    "random": (lambda x: x + torch.randn_like(x), r"gives two answers for one input: a quantiser cannot be random"),
    "stochastic rounding": (lambda x: (x + torch.rand_like(x)).floor(), r"gives two answers for one input"),
    "dropout": (torch.nn.Dropout(), r"gives two answers for one input"),
    "counting": (Counter(), r"gives two answers for one input.*random, or remember"),
    "remembering": (Remembering(), r"gives two answers for one input.*random, or remember"),
    "overwriting": (overwriting, r"changes the tensor that it is given: let it work on a copy"),
    "raising": (raising, r"raised RuntimeError for a float64 tensor of shape \(120,\): the matrix is singular"),
    "of two arguments": (lambda x, mu: x, r"raised TypeError.*mu"),  # type: ignore[dict-item,misc]  # that is what is wrong
    "for one shape alone": (lambda x: x @ torch.eye(120).to(x), r"raised RuntimeError for a float64 tensor of shape"),
    "NaN below -2": (half_line, r"is NaN at \d+ of 120 points, from x = -1000 to -\d.*narrow domain=\(low, high\)"),
    "a logarithm": (torch.log, r"is NaN at \d+ of 120 points, from x = -1000 to -"),
    "exponential": (torch.exp, r"is infinite at \d+ of 120 points, from x = [78]\d\d.* to 1000: .*not overflow"),
    "NaN at one place": (lambda x: x.sin() / x, r"is NaN at \d+ of \d+ points, from x = 0 to 0"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_forward_is_refused(name: str) -> None:
    function, message = WRONG[name]
    with pytest.raises(ProbeError, match=f"^forward {message}"):
        decompose(copy.deepcopy(function), torch.ones_like)


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_backward_is_refused(name: str) -> None:
    function, message = WRONG[name]
    with pytest.raises(ProbeError, match=f"^backward {message}"):
        decompose(identity, copy.deepcopy(function))


@pytest.mark.parametrize("name", ["NaN below -2", "a logarithm", "exponential"])
def test_a_narrower_domain_helps(name: str) -> None:
    """Increasing on what is left of the line, and B = 1."""
    assert decompose(WRONG[name][0], torch.ones_like, domain=(0.5, 20.0)).legitimate is True


def test_only_decompose_speaks_of_its_domain() -> None:
    with pytest.raises(ProbeError, match=r"backward is infinite at .*: write it in a form that does not overflow$"):
        correct(torch.exp)


@pytest.mark.parametrize("given", [3, None, torch.zeros(2), ("bc", "bnn"), {"forward": identity}])
def test_what_is_no_callable_is_refused(given: object) -> None:
    with pytest.raises(TypeError, match=r"takes a pair, its name or a callable of one tensor; got \w+"):
        decompose(given)  # type: ignore[arg-type]  # that is what is wrong
    if given is not None:
        with pytest.raises(TypeError, match=r"backward must be a callable of one tensor; got \w+"):
            decompose(identity, given)  # type: ignore[arg-type]  # that is what is wrong


@pytest.mark.parametrize(
    "domain", [(1.0, 1.0), (2.0, -2.0), (-math.inf, 1.0), (0.0, math.inf), (math.nan, 1.0), (0.0, math.nan)]
)
def test_a_domain_must_be_an_interval(domain: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match=r"domain must be \(low, high\) with low < high, both finite; got \("):
        decompose("bc", domain=domain)


def test_callables_have_their_sharpness_themselves() -> None:
    with pytest.raises(TypeError, match=r"mu is for pairs: let the callables have their sharpness themselves"):
        decompose(torch.tanh, mu=2.0)


def test_a_pair_has_its_backward() -> None:
    with pytest.raises(TypeError, match=r"pair 'bnn' already has a backward: leave the second argument out"):
        decompose("bnn", torch.ones_like)
    with pytest.raises(TypeError, match=r"pair 'bnn\+' already has a backward: write mu=1.5"):
        decompose("bnn+", 1.5)


def test_an_unknown_name_gets_the_near_ones() -> None:
    with pytest.raises(ValueError, match=r"unknown pair 'bnm': did you mean 'bnn'"):
        decompose("bnm")


@pytest.mark.parametrize(
    ("name", "mu"), [("pc", 0.5), ("md", 0.0), ("md", -1.0), ("bnn++", math.inf), ("md", math.nan)]
)
def test_a_sharpness_outside_the_domain_of_the_pair_is_refused(name: str, mu: float) -> None:
    with pytest.raises(
        ValueError, match=rf"pair {name.replace('+', '.')!r} needs a finite sharpness μ >=? [01]; got μ ="
    ):
        decompose(name, mu=mu)


def test_a_pair_that_depends_on_its_sharpness_needs_one() -> None:
    with pytest.raises(ValueError, match=r"pair 'md' depends on its sharpness: pass mu"):
        decompose("md")


ROUGH: dict[str, Map] = {
    "float32 within": lambda x: torch.tanh(x.float()).double(),
    "rounding to 5 digits": lambda x: (x * 1e5).floor() / 1e5,
    "a fast wave": lambda x: x + 1e-3 * torch.sin(1e5 * x),
}


@pytest.mark.parametrize("name", ROUGH)
def test_what_cannot_be_resolved_gets_no_verdict_and_the_reason(name: str) -> None:
    verdict = decompose(ROUGH[name], torch.ones_like)
    assert verdict.legitimate is None
    assert verdict.prox is None
    assert verdict.interval is None
    assert "forward or backward has more jumps and kinks than can be told apart" in verdict.reason
    assert "is it computed in float32, or by rounding?): narrow domain=(low, high)" in verdict.reason


def test_a_float32_constant_alone_does_no_harm() -> None:
    assert decompose(lambda x: torch.where(x >= 0, 1.0, -1.0).to(x), torch.ones_like).legitimate is True


def test_a_callable_of_x_and_mu_is_to_become_a_heuristic() -> None:
    with pytest.raises(
        ProbeError, match=r"of F\(x, μ\) and B\(x, μ\) make pairs.Heuristic\(NAME, forward=F, backward=B"
    ):
        decompose(lambda x, mu: torch.sign(mu * x), torch.ones_like)
