"""The quantizer's Triton kernels, against a twin in float64 and against the quantizer by torch."""

from typing import Any

import pytest
import torch
from stand_in import KNOWN, answers, as_on_a_gpu, drawn  # noqa: F401  # a fixture
from torch import Tensor

from looped import looped
from proxconnect import PAIRS, Quantizer, binarize
from proxconnect.pairs import SURROGATES
from proxconnect.quantizer import on_gpu

every_name = looped(name=KNOWN)
EDGES = {"bnn": lambda mu: 1.0, "clip+": lambda mu: 1 / mu}
"""Where B jumps, so that rounding decides."""

pytestmark = pytest.mark.filterwarnings("ignore:.*encountered in:RuntimeWarning")  # numpy on inf - inf and 0/0


def twin(latent: Tensor, name: str, scale: str | None, mu: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Value, factor of the gradient, the greatest that it can be, and x, in float64."""
    pair, w = PAIRS[name], latent.double()
    dims = list(range(1, w.dim())) if scale == "channel" else list(range(w.dim()))
    mean = w.abs().mean(dims, keepdim=True) if scale else torch.ones(())
    x = w / mean
    f, alpha = pair.forward(x, mu), torch.ones(())
    if scale:
        alpha = (w * f).sum(dims, keepdim=True) / (f * f).sum(dims, keepdim=True)
    ratio = alpha / mean
    return alpha * f, ratio * pair.backward(x, mu), ratio * pair.backward(torch.zeros_like(x), mu), x


def require_agreement(latent: Tensor, name: str, scale: Any, mu: float) -> None:
    g = torch.randn(latent.shape).to(latent.dtype)
    quantizer = Quantizer(name, scale, mu=mu)
    value, gradient = answers(latent, quantizer, g)
    expected, factor, greatest, x = twin(latent, name, scale, float(torch.tensor(mu)))
    # The interpreter truncates to bfloat16.
    rounding = {torch.float32: 0.0, torch.float16: 2.0**-11, torch.bfloat16: 2.0**-7}[latent.dtype]
    tiny = torch.finfo(latent.dtype).tiny if latent.dtype != torch.float16 else 2.0**-24
    assert value.dtype == gradient.dtype == latent.dtype
    assert torch.allclose(value.double(), expected, rtol=1e-6 + rounding, atol=tiny)
    sure = torch.ones_like(x, dtype=torch.bool)
    if name in EDGES:
        sure = (x.abs() - EDGES[name](mu)).abs() > 1e-5
    off = (gradient.double() - factor * g.double()).abs()
    assert (off <= 1e-6 * (greatest * g).abs() + rounding * (factor * g).abs() + tiny)[sure].all()
    by_torch = answers(latent, quantizer, g, by_torch=True)
    loss = rounding * (4 if scale else 50)  # torch computes in the dtype of the latent
    for ours, theirs in zip((value, gradient), by_torch, strict=True):
        close = torch.isclose(ours.double(), theirs.double(), rtol=1e-4 + loss, atol=1e-5 + loss)
        assert (close | ~sure).all()


CASES = (
    ((3, 1), "channel", torch.float32, 2.0),
    ((66, 9), "channel", torch.bfloat16, 3.0),
    ((5, 63), "tensor", torch.float32, 30.0),
    ((4, 64), "channel", torch.float16, 1.0),
    ((2, 1000), "channel", torch.float32, 1.5),
    ((3, 500), None, torch.float16, 7.0),
)
"""One entry a row; many short rows; more entries than a tile; each scale and dtype."""


@every_name
def test_values_and_gradients_are_those_of_the_twin_and_of_torch(name: str) -> None:
    for shape, scale, dtype, mu in CASES:
        require_agreement(drawn(*shape, dtype=dtype), name, scale, mu)


@pytest.fixture
def short_rows_are_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows of more than 16 entries go by up to four parts."""
    launches = on_gpu._kernels()
    monkeypatch.setattr(launches, "WIDEST", 16)
    monkeypatch.setattr(launches, "STEP", 16)
    monkeypatch.setattr(launches.kernels, "MOST_PARTS", type(launches.kernels.MOST_PARTS)(4))


@looped(name=["bc", "bnn", "bnn++", "pc"])
def test_parts_of_rows_are_added(name: str, short_rows_are_long: None) -> None:
    """Parts of several steps, and a last part that is shorter."""
    for shape, scale in (((2, 70), "channel"), ((2, 33), "tensor")):
        require_agreement(drawn(*shape), name, scale, 2.0)


def test_a_row_that_no_program_can_keep() -> None:
    require_agreement(drawn(2, 20_000), "bnn++", "channel", 3.0)
    require_agreement(drawn(20_000, dtype=torch.bfloat16), "bnn", "tensor", 1.0)


def special_rows() -> Tensor:
    rows = drawn(10, 21)
    rows[1, 20], rows[2, 3], rows[3, 4] = torch.nan, torch.inf, -torch.inf
    rows[4] = 0.0
    rows[4, 5] = -0.0
    rows[5, ::2], rows[5, 1] = 0.0, -0.0
    rows[6] *= 2.0**-110
    rows[7] *= 2.0**-128  # denormal
    rows[8] *= 2.0**100
    rows[9] = torch.tensor([0.5, -0.5, 0.5]).repeat(7)  # |x| = 1, where the B of bnn is still 1
    return rows


def require_as_by_torch(latent: Tensor, name: str, scale: Any) -> None:
    quantizer, g = Quantizer(name, scale, mu=2.0), torch.randn(latent.shape)
    quantizer.start_scale(torch.ones_like(latent).requires_grad_())
    ours, theirs = answers(latent, quantizer, g), answers(latent, quantizer, g, by_torch=True)
    for one, other in zip(ours, theirs, strict=True):
        assert torch.equal(one.isnan(), other.isnan())
        absolute = 0 if one is ours[0] and scale else 1e-5  # torch's F and B cancel terms
        assert torch.allclose(one, other, rtol=2e-5, atol=absolute, equal_nan=True)


@every_name
@looped(scale=["channel", "learned", None])
def test_special_values_are_as_by_torch(name: str, scale: Any) -> None:
    """Each row has its own: NaN, ±∞, zeros alone, zeros of both signs, extreme magnitudes, |x| = 1."""
    require_as_by_torch(special_rows(), name, scale)


@looped(name=["bc", "bnn", "bnn++", "pc"])
def test_special_values_of_parts_are_as_by_torch(name: str, short_rows_are_long: None) -> None:
    require_as_by_torch(special_rows()[[1, 2, 4, 6, 9]], name, "learned")
    value, _ = answers(torch.zeros(1, 21), Quantizer(name, "channel"), torch.ones(1, 21))
    assert (value == 0).all()


@every_name
def test_zeros_that_share_one_scale(name: str) -> None:
    """Weight 0 and factor B(0)."""
    latent, g = torch.zeros(2, 19), torch.randn(2, 19)
    value, gradient = answers(latent, Quantizer(name, "tensor", mu=2.0), g)
    assert (value == 0).all()
    assert torch.allclose(gradient, g * PAIRS[name].backward(torch.zeros_like(g), 2.0), rtol=1e-6)


@every_name
@looped(dtype=[torch.float32, torch.bfloat16])
def test_a_learned_scale_and_its_gradient(name: str, dtype: torch.dtype) -> None:
    latent, g, quantizer = drawn(4, 37, dtype=dtype), torch.randn(4, 37).to(dtype), Quantizer(name, "learned", mu=3.0)
    quantizer.start_scale(latent.requires_grad_())
    with torch.no_grad():
        quantizer.alpha.mul_(torch.tensor([1.5, -1, 0.5, 0]))
    ours, theirs = answers(latent, quantizer, g), answers(latent, quantizer, g, by_torch=True)
    tolerance = 2e-6 if dtype == torch.float32 else 0.02
    assert len(ours) == 3
    for one, other in zip(ours, theirs, strict=True):
        assert (one - other).abs().max() <= tolerance * other.abs().max()


def test_groups_of_inputs_are_rows() -> None:
    layer = binarize(torch.nn.Sequential(torch.nn.Linear(128, 3)), "bnn++", keep=None, group_size=64)[0]
    layer.weight.sum().backward()
    ours, layer.latent.grad = layer.latent.grad, None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(on_gpu, "is_plain", lambda _: False)
        layer.weight.sum().backward()
    assert torch.allclose(ours, layer.latent.grad, rtol=1e-5)
    groups, mu = layer.latent.view(6, 64), float(layer.weight_quantizer.mu)
    assert torch.allclose(layer.weight.view(6, 64).double(), twin(groups, "bnn++", "channel", mu)[0], rtol=1e-6)


@looped(name=["bnn", "bnn++"])
@looped(scale=["channel", None])
def test_any_layout_of_latent_and_gradient(name: str, scale: Any) -> None:
    """Entries in the order of channels_last, unaligned, and gradients of other strides than the latent, or of none."""
    quantizer, shape = Quantizer(name, scale, mu=2.0), (4, 3, 5, 2)
    plain, g = drawn(*shape), torch.randn(shape)
    expected = answers(plain, quantizer, g)
    shifted = torch.empty(plain.numel() + 1)[1:].view(shape).copy_(plain)
    last = torch.channels_last
    for latent, gradient in ((shifted, g.to(memory_format=last)), (plain.to(memory_format=last), g)):
        value, by_latent = answers(latent, quantizer, gradient)
        assert value.stride() == latent.stride()
        assert torch.allclose(value, expected[0], rtol=1e-6, atol=1e-6)
        assert torch.allclose(by_latent, expected[1], rtol=1e-6, atol=1e-6)
    leaf = plain.requires_grad_()
    (expanded,) = torch.autograd.grad(quantizer(leaf).sum(), leaf)
    assert torch.equal(expanded, answers(plain, quantizer, torch.ones(shape))[1])


@looped(name=["bnn++", "bnn+"])
@looped(scale=["channel", None])
def test_the_gradient_is_at_the_sharpness_of_its_value(name: str, scale: Any) -> None:
    """Also if a schedule moves μ in place in between; the next pass is at the new μ."""
    latent, g, quantizer = drawn(3, 33).requires_grad_(), torch.randn(3, 33), Quantizer(name, scale, mu=1.0)
    before, after = (answers(latent, Quantizer(name, scale, mu=mu), g, by_torch=True) for mu in (1.0, 4.0))
    value = quantizer(latent)
    quantizer.mu.fill_(4.0)
    assert torch.allclose(torch.autograd.grad(value, latent, g)[0], before[1], rtol=1e-4, atol=1e-5)
    for ours, expected in zip(answers(latent, quantizer, g), after, strict=True):
        assert torch.allclose(ours, expected, rtol=1e-4, atol=1e-5)


@looped(dtype=[torch.float16, torch.bfloat16, torch.float64])
def test_a_sharpness_of_another_dtype(dtype: torch.dtype) -> None:
    latent, g, quantizer = drawn(3, 33), torch.randn(3, 33), Quantizer("bnn++", mu=1.5)
    expected = answers(latent, quantizer, g)
    quantizer.mu = quantizer.mu.to(dtype)
    assert all(torch.equal(a, b) for a, b in zip(answers(latent, quantizer, g), expected, strict=True))


def test_fixed_sharpnesses_are_not_those_of_the_buffer() -> None:
    latent, g = drawn(3, 33), torch.randn(3, 33)
    for name in ("bnn++", "bnn+", "pc", "ede"):
        fixed, free = Quantizer(PAIRS[name].at(3.0)), Quantizer(name, mu=3.0)
        fixed.mu.fill_(7.0)
        assert all(torch.equal(a, b) for a, b in zip(answers(latent, fixed, g), answers(latent, free, g), strict=True))
    _, gradient = answers(latent, Quantizer(SURROGATES["rectangle"], mu=0.5), torch.ones(3, 33))
    assert torch.equal(gradient, 0.5 * (latent / latent.abs().mean(1, keepdim=True)).abs().le(2))
