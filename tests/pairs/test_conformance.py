"""The laws of every pair in `PAIRS`, of every surrogate and of pairs that `theory` made; what a pair should do is read
from the pair, so that a new one passes unedited.
"""

import copy
import pickle
from itertools import product

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from looped import looped
from proxconnect import Quantizer
from proxconnect.pairs import PAIRS, AnyPair, Pair, prox, resolve
from proxconnect.pairs.catalogue import SURROGATES
from theory.made import MADE

PARTS = ("forward", "backward")
DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]
EVERY: dict[str, AnyPair] = PAIRS | SURROGATES | MADE
every_pair = looped(pair=EVERY.values())
every_dtype = looped(dtype=DTYPES)
decomposed = looped(pair=[pair for pair in EVERY.values() if isinstance(pair, Pair)])


def sharpnesses(pair: AnyPair) -> list[float]:
    """The lowest, the usual and the sharpest μ; whatever μ where the pair has none."""
    if pair.sharpness is None:
        return [1.0]
    return [pair.sharpness.lowest or 1e-3, pair.sharpness.start, pair.sharpness.end, 1e4]


def ladder(dtype: torch.dtype) -> Tensor:
    """Finite values of every size, both signs, both zeros."""
    info = torch.finfo(dtype)
    sizes = [0.0, info.smallest_normal, info.eps, 1e-3, 0.1, 0.5, 0.9, 1.0, 1.0 + info.eps, 2.4, 3.4, 10.0, 1e3]
    positive = torch.tensor([*sizes, info.max], dtype=dtype)
    return torch.cat([positive, -positive])


def matches(values: Tensor, expected: Tensor, ulps: float = 0.0, floor: float = 0.0) -> bool:
    tolerance = ulps * torch.finfo(values.dtype).eps
    return torch.allclose(values.double(), expected.double(), rtol=tolerance, atol=tolerance * floor, equal_nan=True)


@every_pair
@every_dtype
def test_keeps_shape_and_dtype(pair: AnyPair, dtype: torch.dtype) -> None:
    for part in PARTS:
        whole = torch.randn(4, 6, dtype=torch.float64).to(dtype)
        for mu in (pair.sharpness.start if pair.sharpness else 1.0, torch.tensor(2.0), torch.tensor(2.0).double()):
            for x in (whole, whole[0, 0], whole[:0], whole.t(), whole[:, ::2], torch.empty(0, dtype=dtype)):
                values = getattr(pair, part)(x, mu)
                assert (values.shape, values.dtype) == (x.shape, dtype)
                assert matches(values, getattr(pair, part)(x.contiguous(), mu), ulps=4, floor=2.0)


@every_pair
@every_dtype
def test_no_finite_input_overflows(pair: AnyPair, dtype: torch.dtype) -> None:
    for part in PARTS:
        for mu in sharpnesses(pair):
            for given_as in (mu, torch.tensor(mu)):
                assert getattr(pair, part)(ladder(dtype), given_as).isfinite().all(), mu


@every_pair
@every_dtype
def test_no_tiny_sharpness_makes_nan(pair: AnyPair, dtype: torch.dtype) -> None:
    for part in PARTS:
        mu = torch.tensor(max(1e-6, pair.sharpness.lowest if pair.sharpness else 0.0))
        assert not getattr(pair, part)(ladder(dtype), mu).isnan().any()
        assert not getattr(pair, part)(ladder(dtype), float(mu)).isnan().any()


@every_pair
@every_dtype
def test_nan_stays_nan(pair: AnyPair, dtype: torch.dtype) -> None:
    for part in PARTS:
        x = torch.tensor([torch.nan, 0.5, -torch.nan], dtype=dtype)
        for mu in sharpnesses(pair):
            for given_as in (mu, torch.tensor(mu)):
                assert getattr(pair, part)(x, given_as).isnan().tolist() == [True, False, True]


@every_pair
@every_dtype
def test_limits_at_infinity(pair: AnyPair, dtype: torch.dtype) -> None:
    """F tends to ±1, or grows with x; B tends to 0 where F does not grow, unless it is 1 throughout."""
    infinite = torch.tensor([-torch.inf, torch.inf], dtype=dtype)
    for mu in (m for m in sharpnesses(pair) if m >= 0.1):
        forward, backward = pair.forward(infinite, mu), pair.backward(infinite, mu)
        far = pair.forward(torch.tensor([-1e4, 1e4], dtype=dtype), mu)
        grows = bool((pair.forward(torch.tensor(2e4, dtype=dtype), mu) - far[1]).abs() > 1e-3)
        assert torch.equal(forward, infinite if grows else far)
        expected = torch.full_like(infinite, 1.0 if pair.slope == "one" else 0.0)
        assert torch.allclose(backward, expected, rtol=0, atol=1e-25)


@every_pair
@every_dtype
def test_odd_forward_and_even_backward(pair: AnyPair, dtype: torch.dtype) -> None:
    x = ladder(dtype)
    x = x[x != 0]
    for mu in sharpnesses(pair):
        assert torch.equal(pair.forward(-x, mu), -pair.forward(x, mu))
        assert torch.equal(pair.backward(-x, mu), pair.backward(x, mu))


@every_pair
@every_dtype
def test_both_zeros_are_one_point(pair: AnyPair, dtype: torch.dtype) -> None:
    zeros = torch.tensor([0.0, -0.0], dtype=dtype)
    for mu in sharpnesses(pair):
        forward, backward = pair.forward(zeros, mu), pair.backward(zeros, mu)
        assert forward[0] == forward[1]
        assert backward[0] == backward[1]
        assert forward[0] >= 0
        if not pair.is_soft():
            assert forward.tolist() == [1.0, 1.0]


@every_pair
def test_hard_means_sign(pair: AnyPair) -> None:
    x = torch.randn(1000).abs() + 1e-3
    values = pair.forward(torch.cat([x, -x]), pair.sharpness.start if pair.sharpness else 1.0)
    assert pair.is_soft() != (
        torch.equal(values[:1000], torch.ones(1000)) and torch.equal(values[1000:], -values[:1000])
    )


@every_pair
def test_tends_to_sign(pair: AnyPair) -> None:
    """At each x ≠ 0 as μ grows; without μ, F is sign or the identity."""
    x = torch.tensor([-3.0, -0.5, -0.02, 0.02, 0.5, 3.0], dtype=torch.float64)
    if pair.sharpness is None:
        assert torch.equal(pair.forward(x), x if pair.is_identity else x.sign())
    else:
        assert torch.allclose(pair.forward(x, 1e4), x.sign(), rtol=0, atol=3e-4)


@every_pair
def test_is_softest_at_the_lowest_sharpness(pair: AnyPair) -> None:
    """A soft F without a gap is linear near 0 there: the identity or the clip from μ = 1 on, else ∝ x as μ → 0."""
    if pair.sharpness is None or not pair.is_soft() or (isinstance(pair, Pair) and isinstance(pair.prox, prox.Gap)):
        return
    x = torch.linspace(-0.9, 0.9, 19, dtype=torch.float64)
    x = x[x.abs() > 1e-9]
    if pair.sharpness.lowest >= 1:
        assert torch.allclose(pair.forward(x, pair.sharpness.lowest), x, rtol=1e-14, atol=0)
    else:
        ratio = pair.forward(x, 1e-6) / x
        assert torch.allclose(ratio, ratio[:1].expand_as(ratio), rtol=2e-6, atol=0)


@every_pair
@every_dtype
def test_float_and_tensor_sharpness_agree(pair: AnyPair, dtype: torch.dtype) -> None:
    """Exactly where μ is exact in the dtype."""
    for part in PARTS:
        x = torch.linspace(-3, 3, 301, dtype=torch.float64).to(dtype)
        for mu in (1.0, 2.0, 16.0):
            of_float, of_tensor = (getattr(pair, part)(x, given_as) for given_as in (mu, torch.tensor(mu)))
            assert matches(of_float, of_tensor, ulps=4, floor=mu)


@decomposed
def test_the_parts_take_a_sharpness_of_another_dtype(pair: Pair) -> None:
    """A float32 μ, as a buffer holds it, costs a float64 input no precision."""
    x = torch.linspace(-3, 3, 101, dtype=torch.float64)
    mu = torch.tensor(1.3) if pair.sharpness and pair.sharpness.lowest >= 1 else torch.tensor(0.3)
    for part in (pair.forward, pair.prox, pair.transform, pair.transform.derivative):
        assert torch.allclose(part(x, mu), part(x, float(mu)), rtol=1e-14, atol=1e-15)


@every_pair
def test_is_frozen(pair: AnyPair) -> None:
    with pytest.raises(AttributeError):
        pair.name = "another"


@every_pair
@every_dtype
def test_low_precision_is_float64_to_a_few_ulp(pair: AnyPair, dtype: torch.dtype) -> None:
    for part in PARTS:
        x = torch.linspace(-4, 4, 401, dtype=torch.float64).to(dtype)
        for mu in (1.0, 2.0, 4.0):
            exact = getattr(pair, part)(x.double(), mu)
            assert matches(getattr(pair, part)(x, mu), exact, ulps=6, floor=max(1.0, mu if part == "backward" else 1.0))


@decomposed
@every_dtype
def test_forward_and_backward_are_those_of_the_decomposition(pair: Pair, dtype: torch.dtype) -> None:
    x = ladder(dtype)
    for mu in sharpnesses(pair):
        p = pair.prox(x, mu)
        rounding = 2.0 if pair.is_sign and pair.sharpness else 0.0  # F is computed as sign
        assert matches(pair.forward(x, mu), pair.transform(p, mu), ulps=rounding)
        assert torch.equal(pair.backward(x, mu), pair.transform.derivative(p, mu))


@decomposed
@given(st.floats(allow_nan=False), st.floats(allow_nan=False), st.floats(1.0, 1e4))
def test_the_prox_is_nondecreasing(pair: Pair, x: float, y: float, mu: float) -> None:
    low, high = pair.prox(torch.tensor([min(x, y), max(x, y)], dtype=torch.float64), mu).tolist()
    assert low <= high


@decomposed
def test_the_derivative_is_that_of_the_transform(pair: Pair) -> None:
    """By central differences of T away from its kinks, which show as a second difference that does not vanish."""
    p = torch.linspace(-3, 3, 997, dtype=torch.float64) + 1e-4
    h = 1e-6
    for mu in (1.0, 2.0, 5.0):
        left, middle, right = (pair.transform(p + shift, mu) for shift in (-h, 0.0, h))
        smooth = (left - 2 * middle + right).abs() < 1e-9
        assert smooth.float().mean() > 0.99
        derivative = pair.transform.derivative(p, mu)
        assert torch.allclose(derivative[smooth], ((right - left) / (2 * h))[smooth], rtol=1e-7, atol=1e-8)


@decomposed
def test_backward_is_the_slope_of_a_smooth_forward(pair: Pair) -> None:
    if pair.prox != prox.identity:
        return
    x = torch.linspace(-3, 3, 997, dtype=torch.float64) + 1e-4
    h = 1e-6
    for mu in (1.0, 2.0, 5.0):
        slope = (pair.forward(x + h, mu) - pair.forward(x - h, mu)) / (2 * h)
        assert torch.allclose(pair.backward(x, mu), slope, rtol=1e-7, atol=1e-5)


@every_pair
def test_the_declared_slope_is_the_slope(pair: AnyPair) -> None:
    x = torch.linspace(-3, 3, 601)
    for mu in sharpnesses(pair):
        values = set(pair.backward(x, mu).tolist())
        assert pair.slope == "any" or values <= ({1.0} if pair.slope == "one" else {0.0, 1.0})


@every_pair
@pytest.mark.usefixtures("by_torch")
@every_dtype
def test_the_gradient_is_g_times_backward(pair: AnyPair, dtype: torch.dtype) -> None:
    x = torch.randn(5, 7, dtype=torch.float64).mul(1.5).to(dtype).requires_grad_()
    g = torch.randn(5, 7, dtype=torch.float64).to(dtype)
    for mu in sharpnesses(pair)[1:] or [1.0]:
        quantizer = Quantizer(pair, None, mu=mu)
        quantised = quantizer(x)
        (gradient,) = torch.autograd.grad(quantised, x, g)
        assert torch.equal(quantised, pair.forward(x, quantizer.mu))
        assert torch.equal(gradient, g * pair.backward(x.detach(), quantizer.mu))


@every_pair
def test_fixed_sharpness(pair: AnyPair) -> None:
    x = torch.randn(50, dtype=torch.float64)
    fixed = pair.at(2.5)
    assert fixed.sharpness is None
    assert fixed.slope == pair.slope
    for mu in (None, 7.0, torch.tensor(7.0)):
        assert torch.equal(fixed.forward(x, mu), pair.forward(x, 2.5))
        assert torch.equal(fixed.backward(x, mu), pair.backward(x, 2.5))
    assert torch.equal(Quantizer(fixed, None)(x), pair.forward(x, 2.5))


@every_pair
def test_fixing_twice_does_not_lie_in_the_name(pair: AnyPair) -> None:
    """The second sharpness changes nothing, so the name must not say that it did."""
    once = pair.at(2.0)
    assert once.at(5.0).name == once.name


@every_pair
def test_a_copy_is_the_same_pair(pair: AnyPair) -> None:
    ways = (copy.copy, copy.deepcopy, lambda p: pickle.loads(pickle.dumps(p)))
    for original, again in product((pair, pair.at(3.0)), ways):
        twin = again(original)
        x = torch.randn(20)
        assert (twin.name, twin.sharpness, twin.slope, twin.__doc__) == (
            original.name, original.sharpness, original.slope, original.__doc__,
        )  # fmt: skip
        assert torch.equal(twin.forward(x, 2.0), original.forward(x, 2.0))
        assert torch.equal(twin.backward(x, 2.0), original.backward(x, 2.0))
        assert twin == original
        assert hash(twin) == hash(original)


@every_pair
def test_refuses_what_is_outside_the_domain(pair: AnyPair) -> None:
    if pair.sharpness is None:
        pair.forward(torch.ones(1))  # needs no sharpness
        return
    outside = [0.0, -1.0, float("nan"), float("inf")] + (
        [pair.sharpness.lowest - 0.01] if pair.sharpness.lowest else []
    )
    for mu in outside:
        for act in (pair.forward, pair.backward):
            with pytest.raises(ValueError, match=rf"{pair.name[:3]}.*μ"):
                act(torch.ones(1), mu)
        with pytest.raises(ValueError, match="sharpness"):
            pair.at(mu)
        with pytest.raises(ValueError, match="sharpness"):
            Quantizer(pair, mu=mu)
    with pytest.raises(ValueError, match=r"pass mu, or fix it with \.at"):
        pair.forward(torch.ones(1))


@every_pair
def test_knows_its_usual_range(pair: AnyPair) -> None:
    if pair.sharpness is not None:
        assert 0 <= pair.sharpness.lowest <= pair.sharpness.start < pair.sharpness.end
        assert pair.sharpness.contains(pair.sharpness.start)
        assert pair.sharpness.contains(pair.sharpness.unmoved)
        assert pair.sharpness.fixed is None or pair.is_sign  # a soft F must become sharp


@pytest.mark.parametrize("name", PAIRS)
def test_the_catalogue_knows_it_by_name(name: str) -> None:
    assert resolve(name) is PAIRS[name]
    assert PAIRS[name].name == name


@every_pair
def test_says_what_it_is(pair: AnyPair) -> None:
    assert resolve(pair) is pair
    assert "F(x)" in (pair.__doc__ or "")
    assert "B" in (pair.__doc__ or "")
    assert ("argmin" in (pair.__doc__ or "")) == isinstance(pair, Pair)
    assert pair.is_identity == (pair.name == "fp")


@pytest.mark.parametrize(
    ("wrong", "near"), [("bnn+++", "'bnn++'"), ("BNN", "'bnn'"), ("pol+", "'poly+'"), ("binary_relax", "'binaryrelax'")]
)
def test_an_unknown_name_gets_the_near_ones(wrong: str, near: str) -> None:
    with pytest.raises(ValueError, match="did you mean") as error:
        resolve(wrong)
    assert near in str(error.value)
    assert all(name in str(error.value) for name in PAIRS)


def test_what_is_no_pair_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="name of PAIRS"):
        resolve(3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="unknown pair 'xyzzy': known are"):
        resolve("xyzzy")
