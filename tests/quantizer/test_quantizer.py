"""Quantizer: scales, what it remembers, zero channels, precisions, transforms, the state dict."""

import copy
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from looped import looped
from proxconnect import PAIRS, Heuristic, Pair, Quantizer
from proxconnect.pairs import prox, transform

every_name = looped(name=PAIRS)
every_scale = looped(scale=["channel", "tensor", None])


def latents(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*(shape or (4, 6)), dtype=torch.float64).mul(0.3).to(dtype).requires_grad_()


def entries_by_scale(tensor: Tensor, scale: str | None) -> list[Tensor]:
    return list(tensor.flatten(1)) if scale == "channel" else [tensor.flatten()]


@every_name
@looped(scale=["channel", "tensor"])
@looped(shape=[(4, 6), (3, 2, 3, 3)])
def test_alpha_is_the_least_squares_scale(name: str, scale: str, shape: tuple[int, ...]) -> None:
    """Against numpy's lstsq: no other multiple of F(x) lies nearer to the latents."""
    quantizer = Quantizer(name, scale, mu=2.0).double()  # type: ignore[arg-type]
    w = latents(*shape)
    for value, latent in zip(
        entries_by_scale(quantizer(w).detach(), scale), entries_by_scale(w.detach(), scale), strict=True
    ):
        f = PAIRS[name].forward(latent / latent.abs().mean(), 2.0)
        alpha = np.linalg.lstsq(f.numpy()[:, None], latent.numpy(), rcond=None)[0][0]
        assert torch.allclose(value, alpha * f, rtol=0, atol=1e-14)


@pytest.mark.parametrize("name", ["bnn++", "poly+", "ede+", "md"])
@looped(scale=["channel", "tensor"])
def test_a_soft_start_is_full_precision(name: str, scale: str) -> None:
    """αF(w*/ᾱ) → w* and the factor → 1 as μ → 0, where B is the slope of F (md, with B = 1, is off by (α/ᾱ) = 1/μ)."""
    quantizer = Quantizer(name, scale, mu=1e-5).double()  # type: ignore[arg-type]
    w = latents()
    value = quantizer(w)
    assert torch.allclose(value, w, rtol=1e-4, atol=1e-12)
    (gradient,) = torch.autograd.grad(value.sum(), w)
    factor = 1e5 if name == "md" else 1.0
    assert torch.allclose(gradient, torch.full_like(w, factor), rtol=1e-4, atol=0)


@every_name
@every_scale
def test_hard_is_the_mean_magnitude_times_the_sign(name: str, scale: str | None) -> None:
    quantizer = Quantizer(name, scale, mu=2.0).double()  # type: ignore[arg-type]
    w = latents()
    with torch.no_grad():
        w[0, :2] = torch.tensor([0.0, -0.0])
    mean = {"channel": w.abs().mean(1, keepdim=True), "tensor": w.abs().mean((0, 1)), None: torch.ones(1, 1)}[scale]
    expected = (mean * torch.where(w < 0, -1.0, 1.0).double()).detach()
    assert torch.allclose(quantizer.hard(w), expected, rtol=1e-15, atol=0)
    assert not quantizer.hard(w).requires_grad
    assert torch.equal(quantizer.eval()(w), w if name == "fp" else quantizer.hard(w))
    quantizer.override = "hard"
    assert torch.equal(quantizer(w), quantizer.hard(w))


@every_name
@looped(scale=["channel", "tensor"])
def test_alpha_of_a_sign_is_the_mean_magnitude(name: str, scale: str) -> None:
    if PAIRS[name].is_soft():
        return
    quantizer, w = Quantizer(name, scale, mu=2.0).double(), latents()  # type: ignore[arg-type]
    assert torch.allclose(quantizer(w), quantizer.hard(w), rtol=0, atol=1e-15)


@every_name
@every_scale
@looped(mode=["train", "eval", "hard"])
def test_the_scales_are_constant_in_the_backward_pass(name: str, scale: str | None, mode: str) -> None:
    """The factor is (α/ᾱ)B(x) with nothing of α's own derivative; in hard modes α = ᾱ."""
    quantizer, w = Quantizer(name, scale, mu=2.0).double(), latents()  # type: ignore[arg-type]
    quantizer.train(mode != "eval")
    quantizer.override = "hard" if mode == "hard" else None
    g = torch.randn_like(w)
    (gradient,) = torch.autograd.grad(quantizer(w), w, g)
    for got, latent, upstream in zip(*(entries_by_scale(t.detach(), scale) for t in (gradient, w, g)), strict=True):
        alpha_bar = latent.abs().mean() if scale else torch.tensor(1.0)
        x = latent / alpha_bar
        f = PAIRS[name].forward(x, 2.0)
        ratio = (latent @ f) / (f @ f) / alpha_bar if scale and mode == "train" else 1.0
        assert torch.allclose(got, ratio * PAIRS[name].backward(x, 2.0) * upstream, rtol=1e-13, atol=1e-15)


@every_name
@looped(scale=["channel", "tensor"])
@looped(dtype=[torch.float32, torch.float16, torch.bfloat16])
@looped(training=[True, False])
def test_a_channel_of_zeros(name: str, scale: str, dtype: torch.dtype, training: bool) -> None:
    """Weight 0 and gradient B(0)·g, never NaN."""
    quantizer = Quantizer(name, scale, mu=2.0).train(training)  # type: ignore[arg-type]
    w = torch.zeros(2, 3, dtype=dtype)
    if scale == "channel":
        w[1] = torch.tensor([0.5, -0.25, 1.0])
    w.requires_grad_()
    g = torch.tensor([[1.0, -2.0, 0.5], [1.0, 1.0, 1.0]], dtype=dtype)
    value = quantizer(w)
    (gradient,) = torch.autograd.grad(value, w, g)
    assert (value[0] == 0).all()
    at_zero = PAIRS[name].backward(torch.zeros(3, dtype=dtype), 2.0)
    assert torch.allclose(gradient[0], g[0] * at_zero, rtol=1e-2 if dtype == torch.bfloat16 else 1e-3, atol=0)
    assert value.isfinite().all()
    assert gradient.isfinite().all()


@every_name
@every_scale
@looped(training=[True, False])
def test_remembers_only_what_backward_needs(name: str, scale: str | None, training: bool) -> None:
    saved: list[Tensor] = []

    def pack(tensor: Tensor) -> Tensor:
        saved.append(tensor)
        return tensor

    quantizer = Quantizer(name, scale).train(training)  # type: ignore[arg-type]
    w = latents(8, 6, dtype=torch.float32)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        quantizer(w)
    of_weight_size = [t.dtype for t in saved if t.numel() >= w.numel()]
    slope = PAIRS[name].slope
    assert of_weight_size == {"one": [], "indicator": [torch.bool], "any": [torch.float32]}[slope]


@every_name
@every_scale
def test_moving_mu_before_the_backward_pass_changes_no_gradient(name: str, scale: str | None) -> None:
    """The factor is of the μ of the forward pass; where B needs that μ, autograd may refuse instead."""
    quantizer, w = Quantizer(name, scale, mu=2.0).double(), latents()  # type: ignore[arg-type]
    (expected,) = torch.autograd.grad(quantizer(w), w, torch.ones_like(w))
    value = quantizer(w)
    quantizer.mu.fill_(5.0)
    try:
        (gradient,) = torch.autograd.grad(value, w, torch.ones_like(w))
    except RuntimeError as error:
        assert "inplace" in str(error)  # noqa: PT017
        assert PAIRS[name].slope == "any", "B does not depend on μ here"
    else:
        assert torch.equal(gradient, expected)


@every_name
@every_scale
@looped(training=[True, False])
def test_nan_is_never_a_quiet_weight(name: str, scale: str | None, training: bool) -> None:
    quantizer, w = Quantizer(name, scale, mu=2.0).train(training), torch.randn(2, 3)  # type: ignore[arg-type]
    w[0, 1] = torch.nan
    assert quantizer(w)[0, 1].isnan()
    assert quantizer.hard(w)[0, 1].isnan()


@every_name
@every_scale
def test_double_backward_is_linear_in_the_gradient(name: str, scale: str | None) -> None:
    """With B and the scales constant, the derivative of (factor·g)·v by g is factor·v, and nothing reaches w*."""
    quantizer, w = Quantizer(name, scale, mu=2.0).double(), latents()  # type: ignore[arg-type]
    g, v = torch.randn_like(w).requires_grad_(), torch.randn_like(w)
    (gradient,) = torch.autograd.grad(quantizer(w), w, g, create_graph=True)
    (second,) = torch.autograd.grad((gradient * v).sum(), g)
    (factor,) = torch.autograd.grad(quantizer(w), w, torch.ones_like(w))
    assert torch.allclose(second, factor * v, rtol=1e-14, atol=1e-15)


@pytest.mark.parametrize("name", PAIRS)
@every_scale
def test_vmap_is_a_loop(name: str, scale: str | None) -> None:
    quantizer, stack = Quantizer(name, scale, mu=2.0).double(), latents(5, 4, 6)  # type: ignore[arg-type]
    assert torch.allclose(
        torch.func.vmap(quantizer)(stack), torch.stack([quantizer(w) for w in stack]), rtol=0, atol=1e-15
    )

    def loss(w: Tensor) -> Tensor:
        return (quantizer(w) ** 2).sum()

    each = torch.stack([torch.autograd.grad(loss(w), w)[0] for w in stack.detach().requires_grad_()])
    assert torch.allclose(torch.func.vmap(torch.func.grad(loss))(stack.detach()), each, rtol=1e-13, atol=1e-15)


@every_name
@every_scale
@looped(dtype=[torch.float16, torch.bfloat16])
def test_low_precision_latents(name: str, scale: str | None, dtype: torch.dtype) -> None:
    """Value and gradient keep the latents' dtype and are those of float64 to a few ulp."""
    quantizer, w = Quantizer(name, scale, mu=2.0), latents(dtype=dtype)  # type: ignore[arg-type]
    value = quantizer(w)
    (gradient,) = torch.autograd.grad(value, w, torch.ones_like(w))
    assert (value.dtype, gradient.dtype) == (dtype, dtype)
    exact_w = w.detach().double().requires_grad_()
    exact = Quantizer(name, scale, mu=2.0).double()(exact_w)  # type: ignore[arg-type]
    (exact_gradient,) = torch.autograd.grad(exact, exact_w, torch.ones_like(exact_w))
    tolerance = 8 * torch.finfo(dtype).eps
    assert torch.allclose(value.double(), exact, rtol=tolerance, atol=tolerance)
    assert torch.allclose(gradient.double(), exact_gradient, rtol=tolerance, atol=2 * tolerance)


@pytest.mark.parametrize("name", ["bnn++", "poly+", "ede+"])
def test_a_small_half_precision_gradient_survives_a_soft_start(name: str) -> None:
    """(α/ᾱ)·B is near 1 there, though B is near μ: applied one after the other the factors underflow on the way."""
    quantizer, w = Quantizer(name, "channel", mu=0.1), latents(2, 64, dtype=torch.float16)
    g = torch.full_like(w, 2e-7)
    (gradient,) = torch.autograd.grad(quantizer(w), w, g)
    assert torch.allclose(gradient.double(), g.double(), rtol=0, atol=1.3e-7)
    assert (gradient != 0).all()


def test_large_half_precision_latents_have_a_finite_scale() -> None:
    """A sum of magnitudes beyond 65504 is taken in float32."""
    w = torch.full((2, 4096), 100.0, dtype=torch.float16)
    for name in ("bc", "bnn++"):
        value = Quantizer(name, "channel", mu=10.0)(w)
        assert torch.allclose(value, w, rtol=1e-2)


@every_scale
def test_shapes_of_scales(scale: str | None) -> None:
    quantizer = Quantizer("bc", scale)  # type: ignore[arg-type]
    w = latents(3, 2, 2, 2)
    expected = {"channel": (3, 1, 1, 1), "tensor": (1, 1, 1, 1), None: None}[scale]
    alpha_bar = quantizer.sharing.mean_magnitude(w)
    assert (None if alpha_bar is None else tuple(alpha_bar.shape)) == expected
    if scale is not None:
        assert quantizer.sharing.mean_magnitude(w.half()).dtype == torch.float32  # type: ignore[union-attr]


def test_the_channel_dimension_is_a_choice() -> None:
    w = latents(4, 6)
    for dim in (1, -1):
        assert torch.equal(Quantizer("bc", channel_dims=(dim,)).double()(w), Quantizer("bc").double()(w.t()).t())


def test_a_vector_has_one_channel_per_entry() -> None:
    """Each entry is a channel of its own, so ᾱ = |w*| entry by entry."""
    w = torch.tensor([1.0, -3.0])
    assert torch.equal(Quantizer("bc", "channel").hard(w), w)
    assert torch.equal(Quantizer("bc", "channel")(w), w)


@every_name
@every_scale
def test_a_scalar_and_an_empty_tensor(name: str, scale: str | None) -> None:
    quantizer = Quantizer(name, scale, mu=2.0)  # type: ignore[arg-type]
    assert quantizer(torch.zeros(0, 3)).shape == (0, 3)
    scalar = quantizer(torch.tensor(-0.5))
    assert scalar.shape == ()
    assert scalar < 0


@every_name
def test_the_usual_start_allows_for_the_magnitude(name: str) -> None:
    """Without a scale F sees μ·w*, so small entries need a μ larger by as much; a domain's lowest end is kept."""
    usual = PAIRS[name].sharpness
    quantizer = Quantizer(name, None, magnitude=0.1)
    if usual is None:
        assert quantizer.sharpness is None
        return
    assert quantizer.sharpness is not None
    assert quantizer.sharpness.end == pytest.approx(10 * usual.end)
    assert quantizer.sharpness.start == pytest.approx(usual.start * (1 if usual.start == usual.lowest else 10))
    unscaled = quantizer.sharpness.start if usual.fixed is None else 10 * usual.fixed
    assert float(quantizer.mu) == pytest.approx(unscaled)
    assert Quantizer(name, "channel", magnitude=0.1).sharpness == usual


@looped(mu=[float("nan"), 0.0, -3.0, float("inf")])
@every_name
def test_an_implausible_sharpness_is_refused(name: str, mu: float) -> None:
    quantizer = Quantizer(name)
    quantizer.mu.fill_(mu)
    for act in (quantizer.train, quantizer.eval, quantizer.require_plausible_mu):
        with pytest.raises(ValueError, match=r"binarize\(\) after"):
            act()


@every_name
def test_the_state_dict_holds_mu_alone(name: str) -> None:
    quantizer = Quantizer(name, mu=3.0)
    assert list(quantizer.state_dict()) == ["mu"]
    other = Quantizer(name)
    other.load_state_dict(quantizer.state_dict())
    assert float(other.mu) == 3.0
    other.load_state_dict({}, strict=True)
    assert float(other.mu) == 3.0


@pytest.mark.parametrize("name", [name for name, pair in PAIRS.items() if pair.sharpness])
@looped(mu=[float("nan"), 0.0, -1.0, float("inf")])
@looped(assign=[False, True])
def test_a_state_dict_with_an_implausible_mu_is_refused(name: str, mu: float, assign: bool) -> None:
    quantizer = Quantizer(name, mu=3.0)
    loaded = {"mu": torch.tensor(mu)}
    with pytest.raises(RuntimeError, match="sharpness"):
        quantizer.load_state_dict(loaded, assign=assign)
    assert float(quantizer.mu) == 3.0
    assert float(loaded["mu"]) == pytest.approx(mu, nan_ok=True), "the caller's state dict was changed"


@pytest.mark.parametrize("again", [copy.deepcopy, lambda q: pickle.loads(pickle.dumps(q))])
@every_name
def test_a_copy_quantises_alike(name: str, again: object) -> None:
    quantizer = Quantizer(name, "tensor", mu=2.5).double().eval()
    twin = again(quantizer)  # type: ignore[operator]
    w = latents()
    assert torch.equal(twin(w), quantizer(w))
    assert torch.equal(twin.train()(w), quantizer.train()(w))
    twin.mu.fill_(9.0)
    assert float(quantizer.mu) == 2.5


@every_name
def test_moves_with_its_module(name: str) -> None:
    quantizer = Quantizer(name, mu=2.0)
    assert quantizer.half().mu.dtype == torch.float16
    assert Quantizer(name).to("meta").eval()(torch.zeros(2, 3, device="meta")).device.type == "meta"


@given(st.lists(st.floats(-1e3, 1e3, allow_subnormal=False), min_size=6, max_size=6), st.floats(1.0, 1e4))
def test_quantising_what_is_quantised_changes_no_hard_weight(entries: list[float], mu: float) -> None:
    quantizer = Quantizer("bnn++", "channel", mu=mu).double()
    w = torch.tensor(entries, dtype=torch.float64).view(2, 3)
    once = quantizer.hard(w)
    assert torch.allclose(quantizer.hard(once), once, rtol=1e-14, atol=0)


def test_a_pair_of_ones_own() -> None:
    own = Pair("own", prox=prox.linear(0.5, 0.25), transform=transform.hardtanh)
    w = latents()
    (gradient,) = torch.autograd.grad(Quantizer(own, None).double()(w).sum(), w)
    assert torch.equal(gradient, torch.ones_like(w))  # |P| ≤ 1 everywhere
    heuristic = Heuristic("leaky", forward=prox.sign, backward=lambda x, mu: torch.where(x.abs() <= 0.1, 1.0, 0.1))
    (gradient,) = torch.autograd.grad(Quantizer(heuristic, None).double()(w).sum(), w)
    assert torch.equal(gradient, torch.where(w.abs() <= 0.1, 1.0, 0.1).double())


def test_refuses_an_unknown_scale() -> None:
    with pytest.raises(ValueError, match="'channel', 'tensor', 'learned' or None"):
        Quantizer("bc", "row")  # type: ignore[arg-type]


def test_the_input_is_never_written_to_nor_aliased() -> None:
    w = torch.randn(3, 4)
    before = w.clone()
    for name in PAIRS:
        for scale in ("channel", None):
            value = Quantizer(name, scale, mu=2.0)(w)  # type: ignore[arg-type]
            if name != "fp":
                assert value.data_ptr() != w.data_ptr()
    assert torch.equal(w, before)


def test_is_a_module_without_parameters() -> None:
    assert isinstance(Quantizer("bc"), nn.Module)
    assert list(Quantizer("bc").parameters()) == []
    assert repr(Quantizer("bnn++", None)) == "Quantizer('bnn++', scale=None)"


@looped(dtype=[torch.int64, torch.bool, torch.complex64])
def test_only_float_tensors_are_quantised(dtype: torch.dtype) -> None:
    with pytest.raises(TypeError, match="takes a float tensor"):
        Quantizer("bc", "tensor")(torch.ones(2, 2, dtype=dtype))
