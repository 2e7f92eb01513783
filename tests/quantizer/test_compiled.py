"""The quantizer by kernels, of every instruction set that this machine runs, against a twin in float64."""

import copy
import itertools
import pickle
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.autograd import forward_ad
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint

from looped import looped
from proxconnect import PAIRS, Heuristic, Pair, Quantizer, kernels
from proxconnect.kernels import library
from proxconnect.pairs import SURROGATES, transform
from proxconnect.pairs.transform import SignSwish
from proxconnect.quantizer import compiled
from proxconnect.quantizer.forms import form_of
from proxconnect.quantizer.rows import rows_of

pytestmark = pytest.mark.skipif(not kernels.is_built(), reason="the kernels were not built")

COMPILED = [name for name, pair in PAIRS.items() if form_of(pair) is not None]
every_name = looped(name=COMPILED)
one_name = pytest.mark.parametrize("name", COMPILED)
SCALES = ("channel", "tensor", None)
every_scale = pytest.mark.parametrize("scale", SCALES)
SHAPES = ((1, 1), (3, 1), (2, 15), (5, 17), (4, 2, 3, 3), (3, 1025), (2, 4097))
"""Of one entry, below and above the lanes of a vector, and beyond what is summed in float32."""


@pytest.fixture(params=kernels.instruction_sets())
def instruction_set(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    by_it = library.loaded(request.param)
    monkeypatch.setattr(compiled, "_kernels", lambda: by_it)
    return str(request.param)


def sharpnesses(name: str) -> list[float]:
    domain = PAIRS[name].sharpness
    return [max(domain.lowest, 1e-3), max(domain.lowest, 0.1), 2.0, 30.0, 1e4] if domain else [1.0]


def drawn(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return (0.3 * torch.randn(shape)).to(dtype)


def took(latent: Tensor, quantizer: Quantizer) -> tuple[Tensor, Tensor, Tensor]:
    """Value, gradient, and the gradient that came in, after a check of the way that it took."""
    value, g = quantizer(latent.requires_grad_()), torch.randn(latent.shape).to(latent.dtype)
    assert type(value.grad_fn).__name__ == "CompiledSurrogateBackward"
    return value.detach(), torch.autograd.grad(value, latent, g)[0], g


def twin(latent: Tensor, name: str, scale: str | None, mu: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Value, factor of the gradient, the greatest that it can be, and x, in float64."""
    pair, w = PAIRS[name], latent.detach().double()
    dims = list(range(1, w.dim())) if scale == "channel" else list(range(w.dim()))
    mean = w.abs().mean(dims, keepdim=True) if scale else torch.ones(())
    x = torch.where(mean == 0, 0.0, w / mean)
    f, alpha, ratio = pair.forward(x, mu), 1.0, torch.ones(())
    if scale:
        alpha = (w * f).sum(dims, keepdim=True) / (f * f).sum(dims, keepdim=True).clamp(min=1e-300)
        ratio = torch.where(mean == 0, 1.0, alpha / mean)
    return alpha * f, ratio * pair.backward(x, mu), ratio * pair.backward(torch.zeros_like(x), mu), x


def near_an_edge(name: str, x: Tensor, mu: float) -> Tensor:
    """Where B jumps, so that rounding decides."""
    width = {"bnn": 1.0, "clip+": 1 / mu}.get(name)
    return torch.zeros_like(x, dtype=torch.bool) if width is None else (x.abs() - width).abs() < 1e-5 * width


def require_agreement(latent: Tensor, name: str, scale: Any, mu: float) -> None:
    value, gradient, g = took(latent, Quantizer(name, scale, mu=mu))
    mu = float(torch.tensor(mu))  # as the buffer has it
    expected, factor, greatest, x = twin(latent, name, scale, mu)
    tolerance = {torch.float32: 1e-6, torch.bfloat16: 2.0**-8}[latent.dtype]
    tiny = torch.finfo(latent.dtype).tiny  # below, numbers are further apart than relative bounds allow
    assert torch.allclose(value.double(), expected, rtol=tolerance, atol=tiny)
    sure = ~near_an_edge(name, x, mu)
    off = (gradient.double() - factor * g.double()).abs()
    rounding = tolerance * (factor if latent.dtype == torch.bfloat16 else greatest) * g.double()
    assert (off <= rounding.abs() + 1e-6 * (greatest * g.double()).abs() + tiny)[sure].all()


@pytest.mark.covering
@one_name
@every_scale
def test_value_and_gradient_are_the_twin_s(instruction_set: str, name: str, scale: str | None) -> None:
    for mu, shape in itertools.product(sharpnesses(name), SHAPES[1:]):
        require_agreement(drawn(*shape), name, scale, mu)


@pytest.mark.covering
@one_name
@every_scale
def test_bfloat16_is_rounded_once(instruction_set: str, name: str, scale: str | None) -> None:
    for mu, shape in itertools.product(sharpnesses(name), SHAPES[1:]):
        require_agreement(drawn(*shape, dtype=torch.bfloat16), name, scale, mu)


@settings(max_examples=100)
@given(
    name=st.sampled_from(COMPILED),
    scale=st.sampled_from(["channel", "tensor"]),
    mu=st.floats(1.0, 1e3),
    exponent=st.integers(-125, 120),
    entries=st.lists(st.floats(-1, 1, width=32), min_size=6, max_size=60),
)
def test_any_magnitude(name: str, scale: str, mu: float, exponent: int, entries: list[float]) -> None:
    latent = torch.tensor(entries).view(-1)[: len(entries) // 2 * 2].reshape(2, -1)
    latent = latent.where(latent.abs() > 1e-3, torch.tensor(0.0)).mul(2.0**exponent)
    require_agreement(latent, name, scale, mu)


@every_name
def test_denormal_latents(instruction_set: str, name: str) -> None:
    """They keep few digits, but x and the gradient are those of any other size."""
    latent, mu = drawn(4, 33), 2.0
    small = (latent * 2.0**-128) / 2.0**-128  # what a denormal holds of it
    for scale in ("channel", "tensor"):
        _, gradient, g = took(small * 2.0**-128, Quantizer(name, scale, mu=mu))
        _, factor, greatest, x = twin(small, name, scale, mu)
        sure = ~near_an_edge(name, x, mu)
        assert ((gradient - factor * g).abs() <= 1e-5 * (greatest * g).abs())[sure].all()


@every_name
@looped(scale=SCALES)
@looped(dtype=[torch.float32, torch.bfloat16])
def test_zeros(instruction_set: str, name: str, scale: Any, dtype: torch.dtype) -> None:
    """Weight 0 and factor B(0) where ᾱ = 0; both zeros are alike elsewhere too."""
    latent = torch.zeros(2, 19, dtype=dtype)
    latent[0, 3] = -0.0
    value, gradient, g = took(latent, Quantizer(name, scale, mu=2.0))
    if scale:
        assert (value == 0).all()
    at_zero = PAIRS[name].backward(torch.zeros_like(g), 2.0)
    assert torch.allclose(gradient, g * at_zero, rtol=torch.finfo(dtype).eps)
    latent = drawn(2, 19, dtype=dtype)
    latent[:, 3], latent[:, 4] = 0.0, -0.0
    value, _, _ = took(latent, Quantizer(name, scale, mu=2.0))
    assert torch.equal(value[:, 3], value[:, 4])


@one_name
@looped(scale=SCALES)
@looped(dtype=[torch.float32, torch.bfloat16])
def test_what_is_not_finite_is_as_by_torch(
    instruction_set: str, name: str, scale: Any, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    for special in (torch.nan, torch.inf, -torch.inf):
        latent = drawn(3, 21, dtype=dtype)
        latent[1, 20] = special
        ours = value_and_gradient(latent, Quantizer(name, scale, mu=2.0))
        with monkeypatch.context() as patch:
            patch.setattr(compiled, "is_plain", lambda _: False)
            theirs = value_and_gradient(latent, Quantizer(name, scale, mu=2.0))
        for one, other in zip(ours, theirs, strict=True):
            assert torch.equal(one.isnan(), other.isnan()), special
            assert torch.allclose(one, other, rtol=4 * torch.finfo(dtype).eps, atol=1e-6, equal_nan=True), special


def value_and_gradient(latent: Tensor, quantizer: Quantizer) -> tuple[Tensor, Tensor]:
    latent = latent.clone().requires_grad_()
    value = quantizer(latent)
    return value.detach(), torch.autograd.grad(value, latent, torch.ones_like(latent))[0]


@every_name
@looped(dtype=[torch.float32, torch.bfloat16])
def test_a_learned_scale(instruction_set: str, name: str, dtype: torch.dtype) -> None:
    latent = drawn(4, 37, dtype=dtype).requires_grad_()
    quantizer, g = Quantizer(name, "learned", mu=3.0), torch.randn(4, 37).to(dtype)
    quantizer.start_scale(latent)
    exact = copy.deepcopy(quantizer).double()
    with torch.no_grad():
        for each in (quantizer.alpha, exact.alpha):
            each.mul_(torch.tensor([1.5, -1, 0.5, 0]))
    wide = latent.detach().double().requires_grad_()
    ours = torch.autograd.grad(quantizer(latent), (latent, quantizer.alpha), g)
    theirs = torch.autograd.grad(exact(wide), (wide, exact.alpha), g.double())
    tolerance = 1e-5 if dtype == torch.float32 else 0.05
    for a, b in zip((quantizer(latent), *ours), (exact(wide), *theirs), strict=True):
        sure = torch.ones_like(b, dtype=torch.bool) if b.dim() == 1 else ~near_an_edge(
            name, wide / wide.abs().mean(1, keepdim=True), 3.0
        )  # fmt: skip
        assert ((a - b).abs() <= tolerance * b.abs().max())[sure].all()


@pytest.mark.covering
@pytest.mark.parametrize("name", ["bc", "bnn", "bnn++", "pc"])
@every_scale
def test_any_layout(instruction_set: str, name: str, scale: Any) -> None:
    """Entries in the order of channels_last, unaligned, and gradients of other strides than the latent."""
    quantizer, shape = Quantizer(name, scale, mu=2.0), (4, 3, 5, 2)
    plain = drawn(*shape)
    expected, expected_gradient, g = took(plain.clone(), quantizer)
    shifted = torch.empty(plain.numel() + 1)[1:].view(shape).copy_(plain)
    for latent in (shifted, plain.to(memory_format=torch.channels_last)):
        latent = latent.detach().requires_grad_()  # a leaf
        for gradient in (g, g.to(memory_format=torch.channels_last), g.transpose(0, 1).contiguous().transpose(0, 1)):
            value = quantizer(latent)
            assert type(value.grad_fn).__name__ == "CompiledSurrogateBackward"
            assert value.stride() == latent.stride()
            close = {"rtol": 1e-6, "atol": 1e-6}
            assert torch.allclose(value, expected, **close)
            assert torch.allclose(torch.autograd.grad(value, latent, gradient)[0], expected_gradient, **close)
    (gradient,) = torch.autograd.grad(quantizer(plain.requires_grad_()).sum(), plain)  # expanded
    (expected_gradient,) = torch.autograd.grad(quantizer(plain), plain, torch.ones(shape))
    assert torch.equal(gradient, expected_gradient)


@pytest.mark.parametrize(
    ("shape", "strides", "scale", "dims", "scales"),
    [
        ((4, 6), (6, 1), "channel", (0,), 4),
        ((4, 6), (6, 1), "tensor", (0,), 1),
        ((4, 6), (6, 1), None, (0,), 0),
        ((4, 6), (6, 1), "channel", (1,), None),
        ((4, 6), (1, 4), "channel", (1,), 6),
        ((4, 6), (1, 4), "channel", (-1,), 6),
        ((4, 6), (1, 4), "channel", (0,), None),
        ((4, 6), (7, 1), "channel", (0,), None),
        ((4, 6), (0, 1), None, (0,), None),
        ((2, 3, 5), (15, 5, 1), "learned", (0, 1), 6),
        ((2, 3, 5), (5, 10, 1), "channel", (0, 1), None),
        ((1, 6), (99, 1), "channel", (0,), 1),
        ((6,), (1,), "channel", (0,), 6),
        ((1, 1), (1, 1), "channel", (0,), None),
        ((0, 3), (3, 1), "channel", (0,), None),
        ((), (), "channel", (0,), None),
    ],
)
def test_what_makes_rows(
    shape: tuple[int, ...], strides: tuple[int, ...], scale: str | None, dims: tuple[int, ...], scales: int | None
) -> None:
    rows = rows_of(shape, strides, scale, dims)
    assert (rows and rows.scales) == scales


@every_name
@looped(scale=SCALES)
def test_derivatives_of_the_gradient(name: str, scale: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the latent and by the gradient, as by torch."""
    latent, g, v = drawn(3, 7).requires_grad_(), torch.randn(3, 7).requires_grad_(), torch.randn(3, 7)
    answers = []
    with monkeypatch.context() as patch:
        for by_kernels in (True, False):
            value = Quantizer(name, scale, mu=2.0)(latent)
            assert ("Compiled" in type(value.grad_fn).__name__) == by_kernels
            (gradient,) = torch.autograd.grad(value, latent, g, create_graph=True)
            second = torch.autograd.grad((gradient * v).sum(), (g, latent), allow_unused=True)
            answers.append([torch.zeros(3, 7) if t is None else t for t in second])
            patch.setattr(compiled, "is_plain", lambda _: False)
    assert all(torch.allclose(a, b, rtol=1e-4, atol=1e-5) for a, b in zip(*answers, strict=True))


@every_name
def test_a_stack_of_gradients(name: str) -> None:
    latent, stack = drawn(3, 7).requires_grad_(), torch.randn(5, 3, 7)
    value = Quantizer(name, mu=2.0)(latent)
    together = torch.autograd.grad(value, latent, stack, is_grads_batched=True, retain_graph=True)[0]
    each = [torch.autograd.grad(value, latent, g, retain_graph=True)[0] for g in stack]
    assert torch.allclose(together, torch.stack(each), rtol=1e-5, atol=1e-6)


@every_name
@looped(scale=SCALES)
def test_what_is_remembered_may_be_packed_and_computed_again(name: str, scale: Any) -> None:
    latent, g, quantizer = drawn(4, 3, 3, 3).requires_grad_(), torch.randn(4, 3, 3, 3), Quantizer(name, scale, mu=2.0)
    (expected,) = torch.autograd.grad(quantizer(latent), latent, g)
    again = checkpoint(quantizer, latent, use_reentrant=False)
    assert torch.equal(torch.autograd.grad(again, latent, g)[0], expected)
    other = torch.channels_last  # as something that packs tensors may bring them back
    with torch.autograd.graph.saved_tensors_hooks(
        lambda t: t.detach().clone(), lambda t: t.to(memory_format=other) if t.dim() == 4 else t
    ):
        value = quantizer(latent)
    assert torch.equal(torch.autograd.grad(value, latent, g)[0], expected)


def test_a_latent_that_is_written_to_is_noticed() -> None:
    latent = drawn(3, 7).requires_grad_()
    value = Quantizer("bnn++")(latent)
    with torch.no_grad():
        latent.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        value.sum().backward()


class Watching(TorchDispatchMode):
    """Sees what torch computes."""

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return function(*args, **(kwargs or {}))


def ways() -> Iterator[tuple[Quantizer, Tensor]]:
    """Quantizers and latents that do not go by kernels."""
    plain = drawn(4, 6)
    yield Quantizer("erf+"), plain
    yield Quantizer("fp"), plain
    yield Quantizer("bnn++").eval(), plain
    yield Quantizer("bnn++").double(), plain.double()
    yield Quantizer("bnn++"), plain.half()
    yield Quantizer("bnn++"), plain.t()
    yield Quantizer("bnn++"), plain[:, :1].expand(4, 6)
    yield Quantizer("bnn++").to("meta"), plain.to("meta")
    yield Quantizer("bnn++"), torch.randn(4, 6, dtype=torch.complex64).conj().imag
    yield Quantizer("bnn++"), torch._neg_view(plain)
    yield Quantizer(Pair("own", transform=transform.FixedTransform(Steeper(), 1.0))), plain
    yield Quantizer(Heuristic("own", forward=torch.mul, backward=transform.sign_swish.derivative)), plain
    hard, ruled, replaced = Quantizer("bnn++"), Quantizer("bnn++"), Quantizer("bnn++")
    hard.override, ruled.trains_latent, replaced.pair = "hard", True, PAIRS["erf+"]
    yield from ((quantizer, plain) for quantizer in (hard, ruled, replaced))


class Steeper(SignSwish):
    """Of a type that the kernels do not know."""


@pytest.mark.parametrize("case", list(ways()), ids=lambda case: repr(case[0]))
def test_the_rest_goes_by_torch(case: tuple[Quantizer, Tensor]) -> None:
    quantizer, latent = case
    assert "Compiled" not in type(quantizer(latent.detach().requires_grad_()).grad_fn).__name__


def test_nothing_is_hidden_from_what_watches_or_traces() -> None:
    quantizer, latent = Quantizer("bnn++"), drawn(4, 6).requires_grad_()
    with Watching():
        assert "Compiled" not in type(quantizer(latent).grad_fn).__name__
        torch.autograd.grad(Quantizer("bnn")(latent).sum(), latent)
    with torch.no_grad():
        traced = torch.jit.trace(quantizer, latent)
    other = drawn(4, 6)
    assert torch.allclose(traced(other), quantizer(other), rtol=1e-4)
    batched = torch.func.vmap(quantizer)(torch.stack([latent, other]))
    assert torch.allclose(batched[1], quantizer(other), rtol=1e-4)


@every_name
def test_gradients_whose_memory_does_not_hold_them(name: str) -> None:
    """Views of the opposite sign, which a conjugate has, and zeros that torch keeps no memory for."""
    latent, g = drawn(4, 6).requires_grad_(), torch.randn(4, 6)
    value = Quantizer(name, mu=2.0)(latent)
    plain, negative, zero = (
        torch.autograd.grad(value, latent, by, retain_graph=True)[0]
        for by in (g, torch._neg_view(g), torch._efficientzerotensor((4, 6)))
    )
    assert torch.allclose(negative, -plain, rtol=1e-4, atol=1e-5)
    assert not zero.any()


def test_tangents_are_not_dropped() -> None:
    quantizer, latent = Quantizer("bnn++"), drawn(4, 6)
    with forward_ad.dual_level(), pytest.raises(NotImplementedError, match="jvp"):
        quantizer(forward_ad.make_dual(latent, torch.ones(4, 6)))


@pytest.mark.parametrize("name", ["bc", "bnn", "bnn++"])
def test_without_kernels_it_goes_by_torch(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "_are_built", lambda: False)
    assert "Compiled" not in type(Quantizer(name)(drawn(4, 6).requires_grad_()).grad_fn).__name__


@pytest.mark.parametrize("threads", [2, 5])
@every_scale
def test_threads_do_not_change_it(threads: int, scale: Any) -> None:
    latent, quantizer = drawn(300, 700), Quantizer("bnn++", scale, mu=3.0)
    g, before, answers = torch.randn(300, 700), torch.get_num_threads(), []
    for number in (1, threads):
        torch.set_num_threads(number)
        try:
            value = quantizer(latent.requires_grad_())
            answers.append((value, torch.autograd.grad(value, latent, g)[0]))
        finally:
            torch.set_num_threads(before)
    assert all(torch.equal(a, b) for a, b in zip(*answers, strict=True))


@pytest.mark.parametrize("again", [copy.deepcopy, lambda q: pickle.loads(pickle.dumps(q))])
@every_name
def test_a_copy_goes_by_kernels_too(name: str, again: Any) -> None:
    quantizer, latent = Quantizer(name, mu=2.0), drawn(4, 6)
    ours, theirs = took(latent, quantizer)[0], took(latent, again(quantizer))[0]
    assert torch.equal(ours, theirs)


def test_a_fixed_sharpness() -> None:
    latent = drawn(4, 6)
    for name in ("bnn++", "bnn+", "pc", "ede"):
        fixed, free = Quantizer(PAIRS[name].at(3.0)), Quantizer(name, mu=3.0)
        assert all(
            torch.equal(a, b) for a, b in zip(*(forward_and_back(latent, q) for q in (fixed, free)), strict=True)
        )


def forward_and_back(latent: Tensor, quantizer: Quantizer) -> tuple[Tensor, Tensor]:
    value = quantizer(latent.requires_grad_())
    assert type(value.grad_fn).__name__ == "CompiledSurrogateBackward"
    return value.detach(), torch.autograd.grad(value, latent, torch.ones_like(latent))[0]


def test_surrogates_of_known_curves_go_by_kernels() -> None:
    latent = drawn(4, 6)
    value, gradient = forward_and_back(latent, Quantizer(SURROGATES["rectangle"], mu=0.5))
    x = latent / latent.abs().mean(1, keepdim=True)
    assert torch.equal(gradient, 0.5 * (x.abs() <= 2).float())
    assert torch.allclose(value, latent.abs().mean(1, keepdim=True) * latent.sign())


@one_name
def test_eager_and_compiled_agree(name: str) -> None:
    torch._dynamo.reset()
    quantizer, latent = Quantizer(name, mu=2.0), drawn(4, 36)
    ours, theirs = forward_and_back(latent, quantizer), torch.compile(quantizer, backend="aot_eager", fullgraph=True)
    value = theirs(latent)
    assert torch.allclose(ours[0], value, rtol=1e-5, atol=1e-7)
    (gradient,) = torch.autograd.grad(value, latent, torch.ones_like(latent))
    assert torch.allclose(ours[1], gradient, rtol=1e-4, atol=1e-5)
