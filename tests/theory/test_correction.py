"""F = ∫₀ B against closed forms and an adaptive quadrature; B itself is kept to the bit."""

import copy
import functools
import math
import pickle
import warnings
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from torch import Tensor

from proxconnect import Quantizer
from proxconnect.pairs import PAIRS, SURROGATES, Heuristic, Pair, Sharpness, prox, transform
from proxconnect.theory import ProbeError, autograd_derivative, correct, decompose
from proxconnect.theory.functions import interpolant
from proxconnect.theory.new_pairs.correction import (
    FAR,
    Antiderivative,
    Sharpened,
    UnboundedForwardWarning,
    antiderivative,
)
from thorough import thorough_but

DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]
LINE = torch.cat([torch.linspace(-5, 5, 1001), torch.tensor([-1e5, -999.5, -60.0, 1e-7, 60.0, 999.5, 1e5])]).double()
may_miss_signs = pytest.mark.filterwarnings("ignore::proxconnect.theory.UnboundedForwardWarning")


def arctan(x: Tensor) -> Tensor:
    return 2 / math.pi / (1 + x * x)


def triangle(x: Tensor) -> Tensor:
    return (1 - x.abs()).clamp(min=0)


def lopsided(x: Tensor) -> Tensor:
    """Jumps at 0.3 and is no mirror image of itself."""
    return torch.where(x < 0.3, torch.exp(x.clamp(max=1.0)), torch.exp(-2 * x.clamp(min=-2.0)))


def rectangle(x: Tensor) -> Tensor:
    return (x.abs() <= 0.37).to(x.dtype) / 0.37


def turning(x: Tensor) -> Tensor:
    """Negative beyond ±1."""
    return (1 - x * x) * torch.exp(-x * x)


def gapped(x: Tensor) -> Tensor:
    """0 on |x| < 0.5, as beyond 1.5."""
    return ((x.abs() - 1).abs() <= 0.5).to(x.dtype)


def peak(x: Tensor) -> Tensor:
    """Narrow, and between the points of any coarse grid."""
    return torch.exp(-(((x - 0.7013) / 0.03) ** 2)) / 0.06


def root(x: Tensor) -> Tensor:
    return x.abs().sqrt()


def slow(x: Tensor) -> Tensor:
    """So heavy a tail that F has no limit."""
    return 1 / (1 + x.abs())


_PEAK = 0.25 * math.sqrt(math.pi)
INTEGRALS: dict[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]] = {
    arctan: lambda x: 2 / math.pi * torch.atan(x),
    triangle: lambda x: torch.where(x.abs() < 1, x - x * x.abs() / 2, 0.5 * x.sign()),
    lopsided: lambda x: torch.where(
        x < 0.3,
        torch.expm1(x.clamp(max=1.0)),
        math.expm1(0.3) + (math.exp(-0.6) - torch.exp(-2 * x.clamp(min=-2.0))) / 2,
    ),
    rectangle: lambda x: x.clamp(-0.37, 0.37) / 0.37,
    turning: lambda x: 0.5 * x * torch.exp(-x * x) + math.sqrt(math.pi) / 4 * torch.erf(x),
    gapped: lambda x: x.sign() * (x.abs() - 0.5).clamp(0, 1),
    peak: lambda x: _PEAK * (torch.erf((x - 0.7013) / 0.03) + 1),
    root: lambda x: x.sign() * x.abs() ** 1.5 / 1.5,
    slow: lambda x: x.sign() * torch.log1p(x.abs()),
    torch.ones_like: lambda x: x,
}


@functools.cache
def corrected(B: Callable[[Tensor], Tensor]) -> Pair:
    """Return the pair of a callable, which is integrated once for all tests that only read it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnboundedForwardWarning)
        return correct(B)


def table_of(B: Callable[[Tensor], Tensor]) -> Antiderivative:
    sharpened = corrected(B).transform
    assert isinstance(sharpened, Sharpened)
    assert isinstance(sharpened.transform, Antiderivative)
    return sharpened.transform


every_callable = pytest.mark.parametrize("B", INTEGRALS, ids=lambda B: B.__name__)
every_surrogate = pytest.mark.parametrize("surrogate", SURROGATES.values(), ids=SURROGATES)


def domain(heuristic: Heuristic, *mus: float) -> list[float]:
    return [mu for mu in mus if heuristic.sharpness is None or heuristic.sharpness.contains(mu)]


@pytest.mark.parametrize(("wrong", "right"), [("bnn+", "bnn++"), ("poly", "poly+"), ("ede", "ede+"), ("erf", "erf+")])
@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: str(dtype).removeprefix("torch."))
def test_the_catalogue_is_mended_into_itself(wrong: str, right: str, dtype: torch.dtype) -> None:
    mended, twin, x = correct(PAIRS[wrong]), PAIRS[right], LINE.to(dtype)
    assert mended.name == right
    assert mended.sharpness is not None
    for mu in (0.1, 0.5, 1.0, 3.0, 30.0):
        for part in ("forward", "backward"):
            ours, theirs = (getattr(pair, part)(x, mu) for pair in (mended, twin))
            eps = torch.finfo(dtype).eps
            assert torch.allclose(ours, theirs, rtol=2 * eps, atol=2 * eps * max(mu, 1.0)), (mu, part)


def test_a_fixed_sharpness_is_mended_exactly_too() -> None:
    mended = correct(PAIRS["bnn+"].at(3.0))
    for mu in (0.5, 1.0, 2.0):
        assert torch.allclose(mended.forward(LINE, mu), PAIRS["bnn++"].forward(LINE, 3 * mu), rtol=0, atol=1e-15)
        assert torch.allclose(
            mended.backward(LINE, mu), mu * PAIRS["bnn+"].backward(mu * LINE, 3.0), rtol=0, atol=1e-15
        )


@may_miss_signs
@every_surrogate
def test_a_mended_surrogate_keeps_its_factor_to_the_bit(surrogate: Heuristic) -> None:
    mended = correct(surrogate)
    assert (mended.name, mended.prox) == (f"{surrogate.name}+", prox.identity)
    assert mended.sharpness is not None
    assert surrogate.sharpness == replace(mended.sharpness, fixed=surrogate.sharpness and surrogate.sharpness.fixed)
    for mu in domain(surrogate, 0.3, 1.0, 2.5, 20.0):
        for dtype in DTYPES:
            x = LINE.to(dtype)
            assert torch.equal(mended.backward(x, mu), surrogate.backward(x, mu))


@may_miss_signs
@every_surrogate
def test_a_mended_surrogate_is_its_integral(surrogate: Heuristic) -> None:
    mended = correct(surrogate)
    for mu in domain(surrogate, 1.0, 4.0):

        def B(x: float, mu: float = mu) -> float:
            return float(surrogate.backward(torch.tensor(x, dtype=torch.float64), mu))

        kinks = [0.1, 0.25, 0.35355339, 1.0, 1.41421356, 1.5]
        for end in (-50.0, -1.7, 0.03, 0.6, 1.2, 3.0, 200.0):
            inside = [math.copysign(kink, end) for kink in kinks if kink < abs(end)]
            expected, _ = quad(B, 0.0, end, points=inside or None, limit=400, epsabs=1e-10, epsrel=1e-10)
            assert float(mended.forward(torch.tensor(end, dtype=torch.float64), mu)) == pytest.approx(
                expected, abs=1e-6
            )


@may_miss_signs
@pytest.mark.parametrize("name", thorough_but(["arctan", "fda", "rbnn", "reste"], SURROGATES))
def test_a_mended_surrogate_is_legitimate(name: str) -> None:
    surrogate = SURROGATES[name]
    mended = correct(surrogate)
    for mu in domain(surrogate, 1.0, 5.0):
        assert decompose(mended, mu=mu).legitimate
        black_box = decompose(lambda x, mu=mu: mended.forward(x, mu), lambda x, mu=mu: mended.backward(x, mu))
        assert black_box.legitimate, black_box


@may_miss_signs
@pytest.mark.parametrize("name", [name for name in SURROGATES if name not in ("rbnn", "dsq", "reste")])
def test_a_table_equals_the_closed_form(name: str) -> None:
    """The same surrogate as a heuristic whose origin is not seen is integrated."""
    surrogate = SURROGATES[name]
    unseen = Heuristic(name, prox.sign, lambda x, mu: surrogate.backward(x, mu), surrogate.sharpness)
    table, closed = correct(unseen), correct(surrogate)
    assert table.transform != closed.transform
    assert table.sharpness == closed.sharpness
    for mu in (0.3, 1.0, 7.0):
        assert torch.allclose(table.forward(LINE, mu), closed.forward(LINE, mu), rtol=0, atol=1e-7)
        assert torch.allclose(table.backward(LINE, mu), closed.backward(LINE, mu), rtol=1e-12, atol=1e-10)


@every_callable
def test_no_table_errs_by_more_than_it_says(B: Callable[[Tensor], Tensor]) -> None:
    T, F = table_of(B), INTEGRALS[B]
    x = torch.cat([3 * torch.randn(100_000).double(), torch.linspace(-1000, 1000, 20_001).double(), FAR * LINE / 1e5])
    x = torch.cat([x, torch.logspace(-12, 6, 2000, dtype=torch.float64)])
    true = F(x)
    assert ((T(x, 1.0) - true).abs() / true.abs().clamp(min=1.0)).max() <= T.error < 1e-6


def test_the_correction_of_a_heuristic_with_a_fixed_sharpness_moves() -> None:
    fixed = Heuristic("bell", prox.sign, lambda x, mu: mu / (1 + (mu * x) ** 2) ** 1.5, Sharpness(0.0, 0.2, 20.0, 3.0))
    assert correct(fixed).sharpness == Sharpness(0.0, 0.2, 20.0)
    assert correct("bnn+").sharpness == PAIRS["bnn++"].sharpness


@every_callable
def test_sharpness_enters_as_a_scale_of_x(B: Callable[[Tensor], Tensor]) -> None:
    pair = corrected(B)
    assert pair.sharpness == Sharpness(0.0, 0.1, 30.0)
    assert pair.name == f"{B.__name__}+"
    for mu in (0.5, 1.0, 4.0):
        assert torch.equal(pair.backward(LINE, mu), mu * B(mu * LINE))
        expected = INTEGRALS[B](mu * LINE)
        assert torch.allclose(pair.forward(LINE, mu), expected, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("B", thorough_but([lopsided, turning, peak, slow], INTEGRALS), ids=lambda B: B.__name__)
def test_what_is_made_is_legitimate(B: Callable[[Tensor], Tensor]) -> None:
    for mu in (1.0, 2.0):
        verdict = decompose(corrected(B), mu=mu)
        assert verdict.legitimate, verdict
        assert verdict.declared


@pytest.mark.parametrize("B", [arctan, triangle, lopsided, turning, slow], ids=lambda B: B.__name__)
def test_the_gradient_is_b_and_b_is_the_slope(B: Callable[[Tensor], Tensor]) -> None:
    """By autograd of the quantizer, of the table, and by central differences."""
    pair = corrected(B)
    x = (torch.linspace(-2.9, 2.9, 59, dtype=torch.float64) + 0.013).requires_grad_()
    (through,) = torch.autograd.grad(Quantizer(pair, None, mu=2.0)(x).sum(), x)
    (through_table,) = torch.autograd.grad(pair.forward(x, 2.0).sum(), x)
    x = x.detach()
    slope = (pair.forward(x + 1e-5, 2.0) - pair.forward(x - 1e-5, 2.0)) / 2e-5
    assert torch.equal(through, pair.backward(x, 2.0))
    assert torch.allclose(through, slope, rtol=0, atol=1e-5)
    assert torch.allclose(through, through_table, rtol=0, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_low_precision_is_float64_rounded(dtype: torch.dtype) -> None:
    pair, x = corrected(arctan), LINE.to(dtype)
    eps = torch.finfo(dtype).eps
    for mu in (0.3, 1.0, 30.0, 1e4):
        for part in (pair.forward, pair.backward):
            expected = part(x.double(), mu)
            assert torch.allclose(part(x, mu).double(), expected, rtol=4 * eps, atol=max(mu, 1.0) * 2e-7)


def test_it_compiles_whole() -> None:
    quantizer = Quantizer(corrected(arctan), None, mu=2.0)
    compiled = torch.compile(quantizer, fullgraph=True, backend="aot_eager")
    x = torch.randn(40, requires_grad=True)
    for run in (quantizer, compiled):
        x.grad = None
        values = run(x)
        values.sum().backward()
        assert torch.equal(values, quantizer(x))
        assert torch.equal(x.grad, quantizer.pair.backward(x.detach(), quantizer.mu))  # type: ignore[arg-type]  # set


def test_it_is_pickled_with_its_table() -> None:
    pair = correct(arctan, "mine")
    again = pickle.loads(pickle.dumps(pair))
    assert again == pair
    assert torch.equal(again.forward(LINE, 3.0), pair.forward(LINE, 3.0))


def test_a_backward_by_autograd_is_pickled_too() -> None:
    pair = correct(autograd_derivative(torch.tanh), "mine")
    assert pickle.loads(pickle.dumps(pair)) == pair


@pytest.mark.parametrize(
    ("B", "said"),
    [(triangle, r"ends at -0\.5 and 0\.5 and misses ±1 by 0\.5"), (turning, "0.4431"), (torch.ones_like, "1e\\+06")],
)
def test_a_forward_that_makes_no_signs_is_warned_of(B: Callable[[Tensor], Tensor], said: str) -> None:
    with pytest.warns(UnboundedForwardWarning, match=said) as caught:
        correct(B)
    assert caught[0].filename == __file__


@pytest.mark.parametrize("B", [arctan, rectangle, gapped], ids=lambda B: B.__name__)
def test_one_that_does_is_not(B: Callable[[Tensor], Tensor]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pair = correct(B)
        assert correct(B, normalise=True).forward(LINE, 1e4)[-1] == pytest.approx(1.0, abs=2e-6)
    assert pair.forward(torch.tensor([-1e9, 1e9]), 1.0).tolist() == pytest.approx([-1.0, 1.0], abs=2e-6)


@pytest.mark.parametrize(
    ("B", "limit"),
    [
        (triangle, 0.5), (turning, math.sqrt(math.pi) / 4), (lambda x: 1 / (1 + x * x), math.pi / 2),
        (SURROGATES["lsnn"], 0.3),
    ],
    ids=["triangle", "turning", "heavy tail", "lsnn"],
)  # fmt: skip
def test_normalised_it_tends_to_signs(B: Heuristic | Callable[[Tensor], Tensor], limit: float) -> None:
    """F and B are divided by one constant, so that B stays the slope."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pair = correct(B, "mine", normalise=True)
    with pytest.warns(UnboundedForwardWarning):
        plain = correct(B)
    for mu in (0.5, 2.0):
        for part in ("forward", "backward"):
            scaled = getattr(plain, part)(LINE, mu) / limit
            assert torch.allclose(getattr(pair, part)(LINE, mu), scaled, rtol=2e-6, atol=1e-9)
    assert pair.forward(torch.tensor([-1e9, 1e9]), 1.0).tolist() == pytest.approx([-1.0, 1.0], abs=2e-6)
    assert decompose(pair, mu=1.0).legitimate


@pytest.mark.parametrize(
    ("B", "said"),
    [
        (torch.ones_like, "from -1e[+]06 to 1e[+]06"), (slow, "no constant makes its limits ±1"),
        (lambda x: torch.sigmoid(-8 * x) * torch.exp(x.clamp(max=1.0)), "no constant"), (torch.zeros_like, "0 to 0"),
        (lambda x: -arctan(x), "from 1 to -1"),
    ],
    ids=["constant", "slow", "lopsided", "zero", "negative"],
)  # fmt: skip
def test_what_has_no_even_limits_is_not_normalised(B: Callable[[Tensor], Tensor], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        correct(B, "mine", normalise=True)


def test_a_pair_needs_no_correction_but_its_backward_may_be_taken() -> None:
    with pytest.raises(TypeError, match="'bnn' is legitimate and needs no correction"):
        correct(PAIRS["bnn"])  # type: ignore[arg-type]  # what is refused
    pair = correct(PAIRS["bnn"].backward, "clip")
    assert torch.allclose(pair.forward(LINE, 1.0), LINE.clamp(-1, 1), rtol=0, atol=1e-14)


@pytest.mark.parametrize("wrong", [3, None])
def test_what_is_neither_a_heuristic_nor_a_callable_is_a_type_error(wrong: object) -> None:
    with pytest.raises(TypeError, match="takes a Heuristic, its name or a callable"):
        correct(wrong)  # type: ignore[arg-type]  # what is refused


@pytest.mark.parametrize("name", ["rbnn", "dsq", "reste"])
def test_a_heuristic_that_sharpens_otherwise_is_refused_with_a_way_out(name: str) -> None:
    surrogate = SURROGATES[name]
    unseen = Heuristic(name, prox.sign, lambda x, mu: surrogate.backward_map(x, mu), surrogate.sharpness)
    with pytest.raises(ValueError, match=r"is not μB\(μx\).*correct\(pair\.at\("):
        correct(unseen)
    at_two = correct(unseen.at(2.0), "mine", normalise=True)
    expected = correct(surrogate.at(2.0), "mine", normalise=True)
    assert torch.allclose(at_two.forward(LINE, 1.0), expected.forward(LINE, 1.0), rtol=0, atol=1e-8)


def _nan(x: Tensor) -> Tensor:
    return torch.where(x > 2, torch.nan, arctan(x))


def _raise(x: Tensor) -> Tensor:
    raise RuntimeError("no")


@pytest.mark.parametrize(
    ("B", "said"),
    [
        (lambda x: x - x.mean(), "mixes entries"), (lambda x: x[:-1], "shape"), (lambda x: arctan(x).float(), "dtype"),
        (torch.rand_like, "two answers"), (_raise, "raised RuntimeError"), (_nan, "backward is NaN"),
        (lambda x: 1 / torch.cosh(x), None), (lambda x: x.mul_(0), "changes the tensor"), (torch.exp, "infinite"),
    ],
)  # fmt: skip
def test_what_is_no_function_of_one_variable_is_refused(B: Callable[[Tensor], Tensor], said: str | None) -> None:
    if said is None:  # 1/∞ is 0, which is no overflow of B
        assert correct(B, normalise=True).forward(LINE, 1.0).isfinite().all()
        return
    with pytest.raises(ProbeError, match=said):
        correct(B)


@pytest.mark.parametrize("B", [lambda x: torch.cos(x.float()).to(x), lambda x: torch.cos((x * 1e5).round())])
def test_what_is_too_rough_is_refused_with_a_way_out(B: Callable[[Tensor], Tensor]) -> None:
    with pytest.raises(
        ValueError, match=r"more jumps and kinks than can be told apart.*: smooth it, or give F in clos"
    ):
        correct(B)


@may_miss_signs
@pytest.mark.parametrize(
    ("count", "width", "middle"), [(11, 0.08, 0.0), (201, 0.08, 0.0), (21, 0.01, 100.0), (21, 0.08, 1000.0)]
)
def test_many_bumps_are_integrated_wherever_they_are(count: int, width: float, middle: float) -> None:
    """One at each integer around the middle, so narrow that at x = 110 a mesh of 1 % steps over some."""

    def B(x: Tensor) -> Tensor:
        away = x - middle
        return torch.exp(-(((away - away.round().clamp(-(count // 2), count // 2)) / width) ** 2))

    x = torch.cat([middle + torch.linspace(-count / 2, count / 2, 401).double(), 10 * LINE])
    centres = middle + torch.arange(-(count // 2), count // 2 + 1, dtype=torch.float64)
    steps = torch.erf((x[:, None] - centres) / width) + torch.erf(centres / width)
    F = width * math.sqrt(math.pi) / 2 * steps.sum(1)
    T = antiderivative(B)
    assert ((T(x, 1.0) - F).abs() / F.abs().clamp(min=1)).max() <= T.error < 1e-9
    assert T.reach == FAR


@may_miss_signs
@pytest.mark.parametrize(
    ("B", "F", "beyond"),
    [
        (lambda x: 1 + torch.cos(5 * x), lambda x: x + torch.sin(5 * x) / 5, 1.0),
        (lambda x: torch.cos(5 * x).square() / (1 + x * x), None, 0.0),
    ],
    ids=["waves", "fading waves"],
)  # fmt: skip
def test_waves_are_kept_as_far_as_the_table_reaches(
    B: Callable[[Tensor], Tensor], F: Callable[[Tensor], Tensor] | None, beyond: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(interpolant, "MOST", 20_000)
    with pytest.warns(
        UserWarning, match=r"backward of 'mine' varies too often.* it for \|μx\| ≤ .*synthesize\(F"
    ) as said:
        pair = correct(B, "mine")
    assert said[0].filename == __file__
    assert isinstance(pair.transform, Sharpened)
    table = pair.transform.transform
    assert isinstance(table, Antiderivative)
    assert table.reach == 30
    x = torch.linspace(-table.reach, table.reach, 1001, dtype=torch.float64)
    assert torch.equal(pair.backward(x, 1.0), B(x))
    if F is not None:
        assert ((pair.forward(x, 1.0) - F(x)).abs() / F(x).abs().clamp(min=1)).max() <= table.error
    far = table.reach * torch.tensor([-3.0, -2.0, 2.0, 3.0], dtype=torch.float64)
    slopes = pair.backward(far, 1.0)
    assert slopes.tolist() == pytest.approx([beyond] * 4, rel=0.01)
    rise = pair.forward(far, 1.0).diff()[[0, 2]] / table.reach
    assert torch.allclose(rise, slopes[[0, 2]], rtol=1e-9, atol=1e-12)
    assert decompose(pair, mu=1.0, domain=(-9.0, 9.0)).legitimate


bumps = st.lists(
    st.tuples(st.floats(-2, 2), st.floats(0.2, 3.0), st.floats(-1.0, 1.0)), min_size=1, max_size=4
)  # centre, width, height


@may_miss_signs
@settings(max_examples=8)
@given(bumps, st.sampled_from([0.5, 1.0, 3.0]))
def test_the_backward_of_the_correction_is_b_whatever_b(chosen: list[tuple[float, float, float]], mu: float) -> None:
    def B(x: Tensor) -> Tensor:
        return sum((h * torch.exp(-(((x - c) / w) ** 2)) for c, w, h in chosen), torch.zeros_like(x))

    def F(x: Tensor) -> Tensor:
        root = math.sqrt(math.pi) / 2
        terms = (h * w * root * (torch.erf((x - c) / w) + math.erf(c / w)) for c, w, h in chosen)
        return sum(terms, torch.zeros_like(x))

    pair = correct(B)
    assert torch.equal(pair.backward(LINE, mu), mu * B(mu * LINE))
    assert torch.allclose(pair.forward(LINE, mu), F(mu * LINE), rtol=0, atol=1e-10)
    assert pair.prox == prox.identity


def test_what_is_made_says_what_it_is() -> None:
    pair = corrected(arctan)
    assert "the B of arctan" in (pair.__doc__ or "")
    assert isinstance(pair.transform, Sharpened)
    assert correct(PAIRS["bnn+"]).transform == transform.sign_swish


def test_a_name_stands_for_its_pair() -> None:
    assert correct("bnn+") == correct(PAIRS["bnn+"])
    with pytest.raises(TypeError, match="pair 'bnn' is legitimate"):
        correct("bnn")
    with pytest.raises(ValueError, match="bnn"):
        correct("bn+")


def test_a_copy_of_a_mended_heuristic_is_equal_to_it() -> None:
    """As models of one pair and their copies are."""
    made = correct(Heuristic("mine", forward=prox.sign, backward=lambda x, mu: torch.exp(-x.abs())))
    assert copy.deepcopy(made) == made
