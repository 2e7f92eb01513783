"""Sums of signs are integers, whatever engine of torch adds them."""

import pytest
import torch
from torch import nn

import proxconnect as pc


@pytest.mark.parametrize("size", [3, 5])
def test_sums_are_integers_without_onednn(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """NNPACK, which torch takes then from 16 images on, transforms patches and rounds."""
    layer = pc.binarize(nn.Conv2d(64, 32, size, padding=1, bias=False), "bnn++", "poly", scale=None, keep=None).eval()
    x = torch.randn(16, 64, 12, 12, requires_grad=True)
    exact = pc.pack(layer)(x.detach())
    monkeypatch.setattr(torch.backends.mkldnn, "enabled", False)
    answer = layer(x)
    assert torch.equal(answer, exact)
    with torch.no_grad():
        assert torch.equal(layer(x), exact)
    (gradient,) = torch.autograd.grad(answer.sum(), x)
    assert gradient.any()
