"""CPU tensors in the place of tensors of a GPU, for quantizers whose kernels run in Triton's interpreter."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from proxconnect import PAIRS, Quantizer
from proxconnect.quantizer import compiled, on_gpu
from proxconnect.quantizer.forms import form_of
from proxconnect.quantizer.rows import is_readable

KNOWN = [name for name, pair in PAIRS.items() if form_of(pair) is not None]

Answers = tuple[Tensor, ...]


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
