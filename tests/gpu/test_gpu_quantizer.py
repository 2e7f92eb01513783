"""The quantizer's Triton kernels, against a twin in float64 and against the quantizer by torch."""

from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import pytest
import torch
from torch import Tensor

from looped import looped
from proxconnect import PAIRS, Quantizer, Sharpening, binarize
from proxconnect.pairs import SURROGATES
from proxconnect.quantizer import compiled, on_gpu
from proxconnect.quantizer.forms import form_of
from proxconnect.quantizer.rows import is_readable

KNOWN = [name for name, pair in PAIRS.items() if form_of(pair) is not None]
every_name = looped(name=KNOWN)
EDGES = {"bnn": lambda mu: 1.0, "clip+": lambda mu: 1 / mu}
"""Where B jumps, so that rounding decides."""

Answers = tuple[Tensor, ...]
pytestmark = pytest.mark.filterwarnings("ignore:.*encountered in:RuntimeWarning")  # numpy on inf - inf and 0/0


@pytest.fixture(autouse=True)
def as_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Quantizers take CPU tensors for tensors of a GPU."""
    monkeypatch.setattr(compiled, "is_plain", lambda _: False)
    monkeypatch.setattr(on_gpu, "is_plain", lambda tensor: tensor.dtype in on_gpu._DTYPES and is_readable(tensor))
    on_gpu._kernels.cache_clear()
    yield
    on_gpu._kernels.cache_clear()


def drawn(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return (0.3 * torch.randn(shape)).to(dtype)


def answers(latent: Tensor, quantizer: Quantizer, g: Tensor, by_torch: bool = False) -> Answers:
    """Value, gradient and, if the scale is learned, its gradient, after a check of the way that they took."""
    latent = latent.detach().requires_grad_()
    with pytest.MonkeyPatch.context() as patch:
        if by_torch:
            patch.setattr(on_gpu, "is_plain", lambda _: False)
        value = quantizer(latent)
        if quantizer.alpha is None:
            assert type(value.grad_fn).__name__ == ("SurrogateBackward" if by_torch else "GpuSurrogateBackward")
        asked = (latent,) if quantizer.alpha is None else (latent, quantizer.alpha)
        gradients = torch.autograd.grad(value, asked, g)
    return value.detach(), *gradients


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
    rounding = {torch.float32: 0.0, torch.float16: 2.0**-11, torch.bfloat16: 2.0**-7}[
        latent.dtype
    ]  # the interpreter truncates bfloat16
    tiny = torch.finfo(latent.dtype).tiny if latent.dtype != torch.float16 else 2.0**-24
    assert value.dtype == gradient.dtype == latent.dtype
    assert torch.allclose(value.double(), expected, rtol=1e-6 + rounding, atol=tiny)
    sure = torch.ones_like(x, dtype=torch.bool)
    if name in EDGES:
        sure = (x.abs() - EDGES[name](mu)).abs() > 1e-5
    off = (gradient.double() - factor * g.double()).abs()
    assert (off <= 1e-6 * (greatest * g).abs() + rounding * (factor * g).abs() + tiny)[sure].all()
    by_torch, loss = (
        answers(latent, quantizer, g, by_torch=True),
        rounding * (4 if scale else 50),
    )  # torch computes in it
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
    before, after = (answers(latent, Quantizer(name, scale, mu=mu), g) for mu in (1.0, 4.0))
    value = quantizer(latent)
    quantizer.mu.fill_(4.0)
    assert torch.equal(torch.autograd.grad(value, latent, g)[0], before[1])
    for ours, expected in zip(answers(latent, quantizer, g), after, strict=True):
        assert torch.equal(ours, expected)


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


def test_no_step_reads_a_tensor_on_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading would wait for the device, and break the capture of a graph."""
    layer = binarize(torch.nn.Sequential(torch.nn.Linear(33, 3)), "bnn++", keep=None)[0]
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1, foreach=False)
    Sharpening(optimizer, torch.nn.Sequential(layer), steps=4)

    def refused(*_: Any) -> NoReturn:
        raise AssertionError("a tensor was read on the host")

    for method in ("item", "tolist", "__bool__", "__float__", "__int__", "numpy"):
        monkeypatch.setattr(Tensor, method, refused)
    for _ in range(2):
        layer.weight.sum().backward()
        optimizer.step()


@every_name
@looped(scale=["channel", None])
def test_derivatives_of_the_gradient_are_torch_s(name: str, scale: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the latent and by the gradient, and of a stack of gradients."""
    latent, g, v = drawn(3, 7).requires_grad_(), torch.randn(3, 7).requires_grad_(), torch.randn(3, 7)
    found = []
    with monkeypatch.context() as patch:
        for _ in range(2):
            value = Quantizer(name, scale, mu=2.0)(latent)
            (gradient,) = torch.autograd.grad(value, latent, g, create_graph=True)
            second = torch.autograd.grad((gradient * v).sum(), (g, latent), allow_unused=True)
            stack = torch.autograd.grad(value, latent, torch.stack([g, v]).detach(), is_grads_batched=True)
            found.append([torch.zeros(3, 7) if t is None else t for t in (*second, *stack)])
            patch.setattr(on_gpu, "is_plain", lambda _: False)
    assert all(torch.allclose(a, b, rtol=1e-4, atol=1e-5) for a, b in zip(*found, strict=True))


def test_what_is_remembered_may_come_back_in_another_layout() -> None:
    latent, g = drawn(4, 3, 3, 3), torch.randn(4, 3, 3, 3)
    for name in ("bnn", "bnn++"):
        expected = answers(latent, Quantizer(name, mu=2.0), g)
        with torch.autograd.graph.saved_tensors_hooks(
            lambda t: t.detach().clone(), lambda t: t.to(memory_format=torch.channels_last) if t.dim() == 4 else t
        ):
            again = answers(latent, Quantizer(name, mu=2.0), g)
        assert all(torch.equal(a, b) for a, b in zip(again, expected, strict=True))


def ways() -> Iterator[tuple[str, Callable[[], tuple[Quantizer, Tensor]]]]:
    """Quantizers and latents that do not go by kernels."""
    yield "no form", lambda: (Quantizer("erf+"), drawn(4, 6))
    yield "float64", lambda: (Quantizer("bnn++").double(), drawn(4, 6).double())
    yield "hard", lambda: (Quantizer("bnn++").eval(), drawn(4, 6))
    yield "columns are rows", lambda: (Quantizer("bnn++"), drawn(4, 6).t())
    yield "gaps", lambda: (Quantizer("bnn++"), drawn(4, 6)[:, ::2])
    yield "one entry", lambda: (Quantizer("bnn++"), drawn(1, 1))
    yield "empty", lambda: (Quantizer("bnn++", None), drawn(0, 3))
    yield "μ elsewhere", lambda: (Quantizer("bnn++"), drawn(4, 6).to("meta"))


@looped(way=[name for name, _ in ways()])
def test_the_rest_goes_by_torch(way: str) -> None:
    quantizer, latent = dict(ways())[way]()
    assert type(quantizer(latent.detach().requires_grad_()).grad_fn).__name__ != "GpuSurrogateBackward"


def test_tensors_that_are_not_on_a_gpu_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert not on_gpu.is_plain(drawn(4, 6))
    assert not on_gpu.is_beside(torch.ones(()), drawn(4, 6).to("meta"))


def test_without_triton_torch_computes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where there is no GPU to ask for its capability; else Ampere is the first that Triton supports."""
    for has_triton, capability, runs in ((False, None, False), (True, (7, 5), False), (True, (8, 0), True)):
        monkeypatch.setattr(on_gpu, "has_triton", lambda has=has_triton: has)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _, found=capability: found)
        on_gpu._runs_triton.cache_clear()
        assert on_gpu._runs_triton(0) is runs
    on_gpu._runs_triton.cache_clear()
