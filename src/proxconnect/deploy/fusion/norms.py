"""Fold batch norms in `eval()` into one multiply-add per channel that equals torch in every bit."""

from functools import cache

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

from proxconnect.kernels.epilogue import Affine


def can_fold(norm: nn.Module) -> bool:
    """Return True if `norm_affine` supports a norm: in `eval()`, with statistics, in float32 on the CPU."""
    if not isinstance(norm, _BatchNorm) or norm.training or norm.running_mean is None or norm.running_var is None:
        return False
    tensors = (norm.running_mean, norm.running_var, norm.weight, norm.bias)
    return all(t is None or (t.dtype is torch.float32 and t.is_cpu) for t in tensors) and adds_in_one_step()


def norm_affine(norm: _BatchNorm) -> Affine | None:
    """Return a and b for which the norm is fma(x, a, b) in each channel; None if they are infinite or NaN.

    torch computes them: b is the norm of 0, and a is the norm of 1 without mean and bias.
    """
    assert norm.running_mean is not None
    zero = torch.zeros_like(norm.running_mean)
    a = _at(1.0, norm, zero, None)
    b = _at(0.0, norm, norm.running_mean, norm.bias)
    if not bool(torch.isfinite(a).all() and torch.isfinite(b).all()):
        return None
    return Affine(a, b)


def _at(x: float, norm: _BatchNorm, mean: Tensor, bias: Tensor | None) -> Tensor:
    """Return the norm of x in every channel, with this mean and bias instead of its own."""
    image = torch.full((1, mean.numel(), 1, 1), x, dtype=torch.float32).contiguous(memory_format=torch.channels_last)
    answer = functional.batch_norm(image, mean, norm.running_var, norm.weight, bias, eps=norm.eps)
    return answer.detach().reshape(-1).contiguous()


@cache
def adds_in_one_step() -> bool:
    """Return True if torch rounds norms once on this machine, as fma does. Otherwise norms cannot be folded."""
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
