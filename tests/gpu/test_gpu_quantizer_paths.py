"""Which quantizers go by the kernels of a GPU, what of their steps goes by torch, and that no step waits."""

from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import pytest
import torch
from stand_in import KNOWN, answers, as_on_a_gpu, drawn  # noqa: F401  # a fixture
from torch import Tensor

from looped import looped
from proxconnect import Quantizer, Sharpening, binarize
from proxconnect.gpu import availability
from proxconnect.quantizer import on_gpu

pytestmark = pytest.mark.filterwarnings("ignore:.*encountered in:RuntimeWarning")


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


@looped(name=KNOWN)
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


@pytest.mark.filterwarnings("ignore:triton is not installed")
def test_without_triton_or_on_old_gpus_torch_computes(monkeypatch: pytest.MonkeyPatch) -> None:
    device = torch.device("cuda", 0)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for has_triton, capability, runs in ((False, None, False), (True, (7, 5), False), (True, (8, 0), True)):
        monkeypatch.setattr(availability, "has_triton", lambda has=has_triton: has)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _, found=capability: found)
        availability.runs_on.cache_clear()
        assert availability.runs_on(device) is runs
    availability.runs_on.cache_clear()
