"""The networks: their arithmetic against a functional rewrite, and what `binarize` makes of them."""

import pytest
import torch
from torch.nn import functional

from proxconnect.conversion import binarize
from proxconnect.layers import BinaryLayer
from proxconnect.training.models.residual import ResidualConv, resnet20, small_cnn


@pytest.mark.parametrize(("stride", "size"), [(1, 6), (2, 6), (2, 7)])
def test_a_block_is_prelu_of_norm_of_conv_plus_shortcut(stride, size):
    block = ResidualConv(3, 5, stride).eval()
    x = torch.randn(2, 3, size, size)
    out = -(-size // stride)
    shortcut = torch.zeros(2, 5, out, out)
    for i in range(out):
        for j in range(out):
            patch = x[:, :, i * stride : (i + 1) * stride, j * stride : (j + 1) * stride]
            shortcut[:, :3, i, j] = patch.mean((-2, -1))
    conv = functional.conv2d(x, block.conv.weight, stride=stride, padding=1) / (1 + block.norm.eps) ** 0.5
    total = conv + shortcut
    assert torch.allclose(block(x), torch.where(total > 0, total, 0.25 * total), atol=1e-5)


@pytest.mark.parametrize(("build", "size", "binary"), [(small_cnn, 8, 4), (resnet20, 28, 18)])
@pytest.mark.parametrize("activations", [None, "poly"])
def test_all_but_stem_and_head_become_binary(build, size, binary, activations):
    model = binarize(build(), weights="bc", activations=activations)
    layers = [name for name, module in model.named_modules() if isinstance(module, BinaryLayer)]
    assert len(layers) == binary
    assert all(name.startswith("stages.") for name in layers)
    images = torch.randn(4, 1, size, size)
    logits = model(images)
    assert logits.shape == (4, 10)
    logits.square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_resnet20_has_twenty_layers_and_the_parameters_of_the_cifar_form():
    model = resnet20(in_channels=3)
    layers = [m for m in model.modules() if isinstance(m, torch.nn.Conv2d | torch.nn.Linear)]
    prelu = sum(p.numel() for m in model.modules() if isinstance(m, torch.nn.PReLU) for p in m.parameters())
    assert len(layers) == 20
    assert sum(p.numel() for p in model.parameters()) - prelu == 269_722  # He 2016 with option A: 0.27 M
