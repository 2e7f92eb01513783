"""The largest and the smallest numbers of each dtype, as latents, scales and inputs: what comes of them is finite."""

from itertools import product

import pytest
import torch
from torch import Tensor, nn

import proxconnect as pc
from looped import looped
from proxconnect import PAIRS, BinaryLinear, Quantizer, kernels
from proxconnect.quantizer import compiled

DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32, "float64": torch.float64}
SCALES = ("channel", "tensor", "learned", None)

each_pair = pytest.mark.parametrize("pair", [name for name in PAIRS if name != "fp"])
each_dtype = looped(dtype=DTYPES.values())


def sizes(dtype: torch.dtype) -> dict[str, float]:
    """The smallest of all, a denormal, the least that is none, and one of which 120 still have a sum."""
    numbers = torch.finfo(dtype)
    return {"smallest": smallest(dtype), "denormal": numbers.smallest_normal / 8, "normal": numbers.smallest_normal,
            "largest": numbers.max / 256}  # fmt: skip


def smallest(dtype: torch.dtype) -> float:
    return torch.finfo(dtype).smallest_normal * torch.finfo(dtype).eps


def latents(size: float, dtype: torch.dtype) -> Tensor:
    """Once and twice that size, of both signs."""
    return (torch.randn(3, 40, dtype=torch.float64).sign() * size * torch.randint(1, 3, (3, 40))).to(dtype)


@each_pair
@each_dtype
@pytest.mark.parametrize("way", ["kernels", "torch"])
def test_extreme_latents_have_finite_weights_and_gradients(way, dtype, pair, request):
    if way == "torch":
        request.getfixturevalue("by_torch")
    for scale, (name, size) in product(SCALES, sizes(dtype).items()):
        made, latent = Quantizer(pair, scale), latents(size, dtype)
        made.start_scale(latent)
        weight = made(latent.requires_grad_())
        weight.backward(torch.ones_like(weight))
        hard = made.hard(latent)
        for tensor in (weight, hard, latent.grad):
            assert tensor.isfinite().all(), (scale, name)
        assert torch.equal(hard.sign(), latent.sign()), (scale, name)


@each_dtype
@pytest.mark.parametrize("activations", [None, "poly"])
@torch.no_grad()
def test_extreme_latents_ship(activations, dtype):
    for scale, (name, size) in product(SCALES, sizes(dtype).items()):
        layer = BinaryLinear(40, 3, bias=False, scale=scale, activations=activations, dtype=dtype)
        layer.weight = latents(size, dtype)
        x = torch.randn(4, 40).to(dtype) / 64
        hard, packed = layer.eval()(x), pc.pack(layer)(x)
        assert hard.isfinite().all(), (scale, name)
        if activations is not None:
            assert torch.equal(packed, hard), (scale, name)
        else:  # products of the smallest number are rounded to multiples of it
            rounding = 40 * smallest(dtype) + 10 * torch.finfo(dtype).eps * float(hard.abs().max())
            torch.testing.assert_close(packed, hard, rtol=0.0, atol=rounding)


@each_dtype
@torch.no_grad()
def test_extreme_inputs_count_by_their_signs(dtype):
    model = nn.Sequential(BinaryLinear(40, 3, activations="poly", dtype=dtype)).eval()
    signs = torch.randn(4, 40).sign().to(dtype)
    for run in (model, pc.pack(model)):
        for size in sizes(dtype).values():
            assert torch.equal(run(signs * size), run(signs))


@each_pair
@pytest.mark.parametrize("scale", SCALES)
def test_denormal_latents_among_others_are_as_by_torch(scale, pair, monkeypatch):
    made = Quantizer(pair, scale)
    latent = torch.randn(3, 40).sign() * 0.02
    latent[:, ::2] *= 1e-38
    made.start_scale(latent)
    weight, gradient = answer(made, latent)
    monkeypatch.setattr(compiled, "is_plain", lambda _: False)
    for found, expected in zip((weight, gradient), answer(made, latent), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-12)


@pytest.mark.skipif(not kernels.is_built(), reason="the kernels were not built")
@pytest.mark.parametrize("pair", ["pc", "binaryrelax", "md", "bnn++", "poly+", "ede+", "bc"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@looped(scale=SCALES)
def test_a_denormal_latent_among_others_makes_no_number_near_the_denormal_ones(scale, dtype, pair):
    made = Quantizer(pair, scale)
    latent = (torch.randn(3, 40).sign() * 0.02).to(dtype)
    latent[:, ::2] *= 1e-37
    made.start_scale(latent)
    weight = made(latent).detach()
    assert weight[weight != 0].abs().min() > 1e-3
    assert (weight[:, ::2] != 0).all() == (pair == "bc")


def answer(made: Quantizer, latent: Tensor) -> tuple[Tensor, Tensor]:
    """The weight, and the gradient of its sum of alternating signs."""
    latent = latent.clone().requires_grad_()
    weight = made(latent)
    weight.backward(torch.tensor([1.0, -0.5]).repeat(20).expand(3, 40))
    assert latent.grad is not None
    return weight.detach(), latent.grad
