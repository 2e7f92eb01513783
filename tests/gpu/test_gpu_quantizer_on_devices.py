"""The quantizer's kernels on a GPU, if there is one: against torch, without waiting, and in captured graphs."""

import pytest
import torch
from torch import Tensor

from looped import looped
from proxconnect import PAIRS, Quantizer
from proxconnect.gpu.availability import runs_on
from proxconnect.quantizer import on_gpu
from proxconnect.quantizer.forms import form_of

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(
        not torch.cuda.is_available() or not runs_on(torch.device("cuda")),
        reason="there is no GPU that Triton supports",
    ),
]
KNOWN = [name for name, pair in PAIRS.items() if form_of(pair) is not None]


@pytest.fixture(scope="module", autouse=True)
def interpreted() -> None:
    """Kernels are compiled here."""


def answers(latent: Tensor, quantizer: Quantizer, g: Tensor) -> tuple[Tensor, Tensor]:
    latent = latent.detach().requires_grad_()
    value = quantizer(latent)
    return value.detach(), torch.autograd.grad(value, latent, g)[0]


@looped(name=KNOWN, scale=["channel", "tensor", None], shape=[(70, 9), (8, 64), (3, 1000), (2, 20_000)])
def test_they_agree_with_torch(name: str, scale: str | None, shape: tuple[int, int]) -> None:
    latent, g = 0.3 * torch.randn(shape).cuda(), torch.randn(shape).cuda()
    quantizer = Quantizer(name, scale, mu=2.0).cuda()
    assert type(quantizer(latent.requires_grad_()).grad_fn).__name__ == "GpuSurrogateBackward"
    ours = answers(latent, quantizer, g)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(on_gpu, "is_plain", lambda _: False)
        theirs = answers(latent, quantizer, g)
    assert all(torch.equal(a, b) for a, b in zip(ours, answers(latent, quantizer, g), strict=True))
    assert torch.allclose(ours[0], theirs[0], rtol=1e-4, atol=1e-5)
    off = (ours[1] - theirs[1]).abs() > 1e-4 * (1 + theirs[1].abs())
    assert off.sum() <= (2 if name in ("bnn", "clip+") else 0)  # where B jumps, rounding decides


@looped(name=["bc", "bnn", "bnn++", "ede"])
def test_a_captured_step_follows_the_sharpness_and_nothing_waits(name: str) -> None:
    latent, g = 0.3 * torch.randn(64, 576).cuda(), torch.randn(64, 576).cuda()
    quantizer, graph = Quantizer(name, mu=2.0).cuda(), torch.cuda.CUDAGraph()
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        answers(latent, quantizer, g)  # compiles
        torch.cuda.set_sync_debug_mode("error")
        try:
            answers(latent, quantizer, g)
        finally:
            torch.cuda.set_sync_debug_mode("default")
    torch.cuda.current_stream().wait_stream(side)
    with torch.cuda.graph(graph):
        captured = answers(latent, quantizer, g)
    quantizer.mu.fill_(5.0)
    graph.replay()
    assert all(torch.equal(a, b) for a, b in zip(captured, answers(latent, quantizer, g), strict=True))
