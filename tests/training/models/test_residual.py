"""The networks: their arithmetic against functional rewrites, and what `binarize` and `pack` make of them."""

import pytest
import torch
from torch import nn
from torch.nn import functional

import proxconnect as pc
from proxconnect.layers import BinaryLayer
from proxconnect.training.models import residual
from proxconnect.training.models.residual import PublishedBlock, ResidualConv, bireal_resnet20, resnet20, small_cnn


def conv_and_norm(conv: nn.Conv2d, norm: nn.BatchNorm2d, x: torch.Tensor) -> torch.Tensor:
    """In `eval()`, before any statistics."""
    return functional.conv2d(x, conv.weight, stride=conv.stride, padding=1) / (1 + norm.eps) ** 0.5


@pytest.mark.parametrize(("stride", "size"), [(1, 6), (2, 6), (2, 7)])
def test_a_block_of_bireal_order_is_prelu_of_norm_of_conv_plus_shortcut(stride, size):
    block = ResidualConv(3, 5, stride).eval()
    x = torch.randn(2, 3, size, size)
    out = -(-size // stride)
    shortcut = torch.zeros(2, 5, out, out)
    for i in range(out):
        for j in range(out):
            patch = x[:, :, i * stride : (i + 1) * stride, j * stride : (j + 1) * stride]
            shortcut[:, :3, i, j] = patch.mean((-2, -1))
    total = conv_and_norm(block.conv, block.norm, x) + shortcut
    assert torch.allclose(block(x), torch.where(total > 0, total, 0.25 * total), atol=1e-5)


@pytest.mark.parametrize(("stride", "size"), [(1, 6), (2, 6), (2, 7)])
def test_a_block_of_published_order_is_two_convolutions_and_a_shortcut_without_parameters(stride, size):
    block = PublishedBlock(3, 5, stride).eval()
    x = torch.randn(2, 3, size, size)
    out = -(-size // stride)
    shortcut = torch.zeros(2, 5, out, out)
    for i in range(out):
        for j in range(out):
            shortcut[:, :3, i, j] = x[:, :, i * stride, j * stride]
    inner = conv_and_norm(block.conv1, block.norm1, x).clamp(min=0)
    total = conv_and_norm(block.conv2, block.norm2, inner) + shortcut
    assert torch.allclose(block(x), total.clamp(min=0), atol=1e-5)


@pytest.mark.parametrize(
    ("build", "shape", "binary"),
    [(small_cnn, (1, 8, 8), 4), (resnet20, (3, 16, 16), 18), (bireal_resnet20, (3, 16, 16), 18)],
)
@pytest.mark.parametrize("activations", [None, "poly"])
def test_all_but_stem_and_head_become_binary(build, shape, binary, activations):
    model = pc.binarize(build(), weights="bc", activations=activations)
    layers = [name for name, module in model.named_modules() if isinstance(module, BinaryLayer)]
    assert len(layers) == binary
    assert all(name.startswith("stages.") for name in layers)
    logits = model(torch.randn(4, *shape))
    assert logits.shape == (4, 10)
    logits.square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize(
    ("order", "depth", "parameters"),
    [  # He 2016, table 6, says 0.27 M, 0.46 M and 0.85 M
        ("", 20, 269_722), ("", 32, 464_154), ("", 56, 853_018),
        ("bireal_", 20, 269_722), ("bireal_", 32, 464_154), ("bireal_", 56, 853_018),
    ],
)  # fmt: skip
def test_depths_and_parameters_are_those_of_the_paper(order, depth, parameters):
    with torch.device("meta"):
        model = getattr(residual, f"{order}resnet{depth}")()
    layers = [m for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    prelu = sum(p.numel() for m in model.modules() if isinstance(m, nn.PReLU) for p in m.parameters())
    assert len(layers) == depth
    assert sum(p.numel() for p in model.parameters()) - prelu == parameters
    assert bool(prelu) == bool(order)


def test_width_classes_channels_and_the_stride_of_the_stem_are_options():
    model = resnet20(in_channels=1, classes=4, width=8, stem_stride=2)
    assert model.stem(torch.randn(2, 1, 28, 28)).shape == (2, 8, 14, 14)
    assert model(torch.randn(2, 1, 28, 28)).shape == (2, 4)
    assert model.head.in_features == 32


@pytest.mark.parametrize(("build", "activations"), [(resnet20, None), (bireal_resnet20, "poly")])
def test_packed_they_answer_as_the_hard_network_does(build, activations):
    example = torch.randn(2, 3, 16, 16)
    model = pc.binarize(build(width=8), "bc", activations, example=example)
    packed = pc.pack(model, example=example)
    torch.testing.assert_close(packed(example), model.eval()(example))
