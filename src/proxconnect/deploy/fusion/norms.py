"""Batch norms in `eval()` as one multiply-add a channel, with the numbers that torch itself computes."""

from functools import cache

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

from proxconnect.kernels.epilogue import Affine


def can_fold(norm: nn.Module) -> bool:
    """Return whether a norm is a function of each entry and its channel: in evaluation, of statistics, in float32."""
    if not isinstance(norm, _BatchNorm) or norm.training or norm.running_mean is None or norm.running_var is None:
        return False
    tensors = (norm.running_mean, norm.running_var, norm.weight, norm.bias)
    return all(t is None or (t.dtype is torch.float32 and t.is_cpu) for t in tensors) and adds_in_one_step()


def norm_affine(norm: _BatchNorm) -> Affine | None:
    """Return a and b such that the norm is fma(x, a, b) for each channel, as torch computes them; None if it is not.

    b is the norm of 0; a is that of 1 without mean and bias. If these are infinite or NaN, neither tells what the norm
    does with other numbers.
    """
    assert norm.running_mean is not None
    zero = torch.zeros_like(norm.running_mean)
    a = _at(1.0, norm, zero, None)
    b = _at(0.0, norm, norm.running_mean, norm.bias)
    if not bool(torch.isfinite(a).all() and torch.isfinite(b).all()):
        return None
    return Affine(a, b)


def _at(x: float, norm: _BatchNorm, mean: Tensor, bias: Tensor | None) -> Tensor:
    """Return the norm of x in every channel, with another mean and bias."""
    image = torch.full((1, mean.numel(), 1, 1), x, dtype=torch.float32).contiguous(memory_format=torch.channels_last)
    answer = functional.batch_norm(image, mean, norm.running_var, norm.weight, bias, eps=norm.eps)
    return answer.detach().reshape(-1).contiguous()


@cache
def adds_in_one_step() -> bool:
    """Return whether torch rounds a norm once, as fma does, on this machine; if it rounds twice, norms stay torch's."""
    generator = torch.Generator().manual_seed(0)
    x, mean, weight, bias = (torch.randn(64, generator=generator, dtype=torch.float32) for _ in range(4))
    variance = torch.rand(64, generator=generator, dtype=torch.float32) + 0.1
    norm = nn.BatchNorm2d(64, dtype=torch.float32).eval()
    norm.load_state_dict({"weight": weight, "bias": bias, "running_mean": mean, "running_var": variance,
                          "num_batches_tracked": torch.tensor(0)})  # fmt: skip
    step = norm_affine(norm)
    assert step is not None
    exact = (x.double() * step.a.double() + step.b.double()).float()
    return torch.equal(functional.batch_norm(x[None, :, None, None], mean, variance, weight, bias).reshape(-1), exact)
