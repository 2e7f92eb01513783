"""(T∘P, T'∘P) from callables: against the catalogue, with T' by autograd, and what is refused."""

import copy
import pickle
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from proxconnect import Quantizer
from proxconnect.pairs import PAIRS, Pair, Prox, Sharpness, Transform, prox, transform
from proxconnect.theory import ProbeError, decompose, synthesize

LINE = torch.linspace(-3, 3, 241, dtype=torch.float64)
PARTS = [(name, pair) for name, pair in PAIRS.items() if isinstance(pair, Pair)]


def inside(p: Tensor) -> Tensor:
    """What bnn states of hardtanh."""
    return (p.abs() <= 1).to(p.dtype)


def sharp(p: Tensor) -> Tensor:
    """Smooth, however steep."""
    return torch.tanh(300 * (p - 1))


def min_max(p: Tensor) -> Tensor:
    return torch.minimum(torch.maximum(p, -torch.ones_like(p)), torch.ones_like(p))


def outward(x: Tensor) -> Tensor:
    return torch.where(x >= 0, x.clamp(min=1.0), x.clamp(max=-1.0))


def same(a: Pair, b: Pair, *mus: float) -> bool:
    return all(
        torch.equal(getattr(a, part)(LINE, mu), getattr(b, part)(LINE, mu))
        for mu in mus
        for part in ("forward", "backward")
    )


@pytest.mark.parametrize(("name", "pair"), PARTS, ids=[name for name, _ in PARTS])
def test_the_parts_of_the_catalogue_make_the_catalogue(name: str, pair: Pair) -> None:
    made = synthesize(pair.transform, pair.prox, name)
    assert made == pair
    assert made.sharpness == pair.sharpness
    assert "argmin" in (made.__doc__ or "")


@pytest.mark.parametrize(
    "T", [functional.hardtanh, lambda p: p.clamp(-1, 1), min_max], ids=["hardtanh", "clamp", "min"]
)
@pytest.mark.parametrize("P", [prox.outward, outward], ids=["Prox", "callable"])
def test_a_kink_where_the_prox_stays_asks_for_its_derivative(T: Callable[[Tensor], Tensor], P: Prox) -> None:
    """Whatever autograd says there: 0, 1 or ½."""
    with pytest.raises(ValueError, match=r"P stays at p = -1, where T has slope -?0 .* 1 .*pass derivative="):
        synthesize(T, P, "mine")
    assert same(synthesize(T, P, "mine", derivative=inside), PAIRS["bnn"], 1.0)  # type: ignore[arg-type]  # it is a Pair


@pytest.mark.parametrize(
    ("stated", "legitimate"), [(0.0, True), (0.5, True), (1.0, True), (17.0, False), (-0.1, False)]
)
def test_the_stated_slope_of_a_kink_is_one_of_those_around_it(stated: float, legitimate: bool) -> None:
    def derivative(p: Tensor) -> Tensor:
        return torch.where(p.abs() == 1, stated, (p.abs() < 1).to(p.dtype))

    if not legitimate:
        with pytest.raises(ValueError, match=r"P stays at p = -1, where the declared T' is .* state one of these"):
            synthesize(functional.hardtanh, prox.outward, "mine", derivative)
        return
    pair = synthesize(functional.hardtanh, prox.outward, "mine", derivative)
    assert pair.backward(torch.tensor([-0.5, 0.5]).double()).tolist() == [stated, stated]


def test_a_kink_where_the_prox_only_passes_needs_none() -> None:
    pair = synthesize(functional.hardtanh, prox.identity, "mine")
    away = LINE[(LINE.abs() - 1).abs() > 1e-9]
    assert torch.equal(pair.backward(away), inside(away))


def test_a_kink_that_the_prox_rests_on_at_a_later_sharpness_is_found() -> None:
    """pc starts as clip, whose range has no gap; at μ = 30 it jumps to ±29/30."""

    def bent(p: Tensor) -> Tensor:
        return p + (p - 29 / 30).relu()

    with pytest.raises(
        ValueError, match=r"P stays at p = 0\.966667, where T has slope 1 on the left and 2 on the right"
    ):
        synthesize(bent, prox.proxconnect, "mine")


@pytest.mark.parametrize(
    ("T", "slope"),
    [
        (torch.tanh, lambda p: 1 - torch.tanh(p) ** 2), (torch.sin, torch.cos), (lambda p: p**3 / 3, lambda p: p * p),
        (sharp, lambda p: 300 * (1 - sharp(p) ** 2)), (torch.zeros_like, torch.zeros_like),
    ],
    ids=["tanh", "sin", "cube", "sharp", "constant"],
)  # fmt: skip
@pytest.mark.parametrize("P", [prox.outward, prox.sign, prox.linear(0.4, 0.2)], ids=["outward", "sign", "linear"])
def test_the_derivative_is_that_of_autograd(
    T: Callable[[Tensor], Tensor], slope: Callable[[Tensor], Tensor], P: Prox
) -> None:
    pair = synthesize(T, P, "mine")
    p = P(LINE, 1.0)
    assert torch.equal(pair.forward(LINE), T(p))
    assert torch.allclose(pair.backward(LINE), slope(p), rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("without_grad", [False, True])
def test_the_derivative_by_autograd_serves_training(without_grad: bool) -> None:
    pair = synthesize(torch.tanh, prox.outward, "mine")
    x = torch.randn(7, 3, requires_grad=True)
    with torch.set_grad_enabled(not without_grad):
        backward = pair.backward(x)
    Quantizer(pair, None)(x).sum().backward()
    assert torch.equal(x.grad, backward.detach())  # type: ignore[arg-type]  # set by backward
    x.grad = None
    torch.compile(Quantizer(pair, None), fullgraph=True, backend="aot_eager")(x).sum().backward()
    assert torch.allclose(x.grad, backward.detach())  # type: ignore[arg-type]  # set by backward


@pytest.mark.parametrize("again", [copy.deepcopy, lambda pair: pickle.loads(pickle.dumps(pair))])
def test_a_copy_is_the_same_pair(again: Callable[[Pair], Pair]) -> None:
    pair = synthesize(sharp, outward, "mine")
    assert again(pair) == pair
    assert same(again(pair), pair, 1.0)


@pytest.mark.parametrize(
    ("P", "said"),
    [
        (lambda x: -x, "falls by .* from 1000"), (lambda x: x - 2 * (x - 1).relu(), "between x = 1 and"),
        (lambda x: torch.where(x < 0.3, x, x - 1e-6), r"x = 0\.3 and 0\.3,"), (torch.sin, "prox falls"),
    ],
    ids=["minus", "turning", "jump down", "sin"],
)  # fmt: skip
def test_a_prox_that_falls_is_refused_naming_where(P: Callable[[Tensor], Tensor], said: str) -> None:
    with pytest.raises(ValueError, match=rf"{said}.*a map that falls is the prox of nothing"):
        synthesize(torch.tanh, P, "mine")


class Falling(Prox):
    """One that its author thinks a prox, from μ = 2 on wrongly."""

    sharpness = Sharpness(lowest=1.0, start=1.0, end=4.0)

    def __call__(self, x: Tensor, mu: float | Tensor) -> Tensor:
        return x - (mu - 1.5 > 0) * 2 * x


class Sloped(Transform):
    """One that states twice its derivative from μ = 3 on."""

    sharpness = Sharpness(lowest=1.0, start=1.0, end=9.0)

    def __call__(self, p: Tensor, mu: float | Tensor) -> Tensor:
        return torch.tanh(mu * p)

    def derivative(self, p: Tensor, mu: float | Tensor) -> Tensor:
        return mu * (1 - torch.tanh(mu * p) ** 2) * (2 if mu > 2.5 else 1)


def test_declared_parts_are_looked_at_too() -> None:
    with pytest.raises(ValueError, match="'mine' does not hold at μ = 2: the declared prox falls"):
        synthesize(transform.identity, Falling(), "mine")
    with pytest.raises(ValueError, match="'mine' does not hold at μ = 3: the declared T' is"):
        synthesize(Sloped(), prox.identity, "mine")


@pytest.mark.parametrize(
    ("T", "derivative"),
    [
        (torch.tanh, torch.ones_like), (torch.tanh, lambda p: (1 - torch.tanh(p) ** 2) * 1.0001),
        (functional.hardtanh, lambda p: (p.abs() <= 0.9).to(p.dtype)), (torch.sin, lambda p: -torch.cos(p)),
    ],
    ids=["one", "a little", "narrow", "sign"],
)  # fmt: skip
def test_a_wrong_derivative_is_refused(T: Callable[[Tensor], Tensor], derivative: Callable[[Tensor], Tensor]) -> None:
    with pytest.raises(ValueError, match=r"does not hold at μ = 1: the declared T' is .*, where T has slope"):
        synthesize(T, prox.identity, "mine", derivative)


@pytest.mark.parametrize(
    ("T", "at"), [(torch.sign, "p = 0"), (lambda p: p + (p > 0.3).to(p.dtype), r"p = 0\.3")], ids=["sign", "step"]
)
def test_a_transform_that_jumps_is_refused(T: Callable[[Tensor], Tensor], at: str) -> None:
    with pytest.raises(ValueError, match=rf"the declared T jumps by 1 at {at}"):
        synthesize(T, prox.identity, "mine")


def test_a_transform_with_a_derivative_of_its_own_takes_no_other() -> None:
    with pytest.raises(TypeError, match="has a derivative of its own"):
        synthesize(transform.hardtanh, prox.outward, "mine", derivative=inside)


@pytest.mark.parametrize(
    ("T", "P", "said"),
    [
        (lambda p: torch.from_numpy(p.numpy()), prox.identity, r"no derivative of this transform, so pass derivative="),
        (lambda p: p - p.mean(), prox.identity, "transform mixes entries"),
        (torch.tanh, lambda x, mu: x, "prox raised TypeError"), (torch.tanh, torch.rand_like, "prox gives two answers"),
        (torch.exp, prox.identity, "transform is infinite"),
    ],
)  # fmt: skip
def test_what_is_no_function_of_one_variable_is_refused(T: Callable[..., Tensor], P: Prox, said: str) -> None:
    with pytest.raises(ProbeError, match=said):
        synthesize(T, P, "mine")


@pytest.mark.parametrize(("T", "P"), [(3, prox.identity), (torch.tanh, "sign")])
def test_what_is_no_callable_is_a_type_error(T: object, P: object) -> None:
    with pytest.raises(TypeError, match="must be a callable of one tensor"):
        synthesize(T, P, "mine")  # type: ignore[arg-type]  # what is refused


steps = st.lists(st.tuples(st.floats(-2, 2), st.floats(0.1, 1.0)), max_size=3)  # place and height of jumps of P


@settings(max_examples=12)
@given(steps, st.floats(0.2, 2.0), st.floats(-0.9, 2.0))
def test_whatever_is_synthesised_is_legitimate_and_p_comes_back(
    jumps: list[tuple[float, float]], slope: float, bend: float
) -> None:
    """Up to a constant on each stretch between jumps: how high these are is seen through the T in the gaps alone."""

    def P(x: Tensor) -> Tensor:
        return slope * x + sum((h * (x >= at).to(x.dtype) for at, h in jumps), torch.zeros_like(x))

    def T(p: Tensor) -> Tensor:  # T' > 0 everywhere, so that P is free nowhere but up to a constant
        return p + bend * p * torch.exp(-p * p)

    pair = synthesize(T, P, "mine")
    verdict = decompose(pair)
    assert verdict.legitimate, verdict
    assert verdict.prox is not None
    x = LINE[1:-1] + 1e-3 * torch.pi
    between = torch.stack([(x[:-1] < at) & (x[1:] >= at) for at, _ in [*jumps, (9.0, 0.0)]]).any(0)
    assert ((verdict.prox(x) - P(x)).diff()[~between].abs() < 1e-8).all()
