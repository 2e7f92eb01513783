"""Bi-Real Net: the shapes of the paper."""

import torch
from torch import nn

from proxconnect import BinaryConv2d, binarize
from proxconnect.training.models.bireal import KEEP, BiRealNet, bireal_resnet18


def test_it_is_resnet18_with_a_shortcut_around_every_convolution():
    with torch.device("meta"):
        model = bireal_resnet18()
    theirs = 11_689_512  # parameters of ResNet-18, whose blocks of two convolutions need no other shortcuts
    assert sum(p.numel() for p in model.parameters()) == theirs
    convs = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
    assert [m.kernel_size for m in convs].count((3, 3)) == 16
    assert [m.kernel_size for m in convs].count((1, 1)) == 3


def test_stem_shortcuts_and_head_stay_float():
    model = binarize(bireal_resnet18(width=8, classes=3), "bnn++", "poly", keep=KEEP, example=torch.randn(1, 3, 64, 64))
    assert sum(isinstance(m, BinaryConv2d) for m in model.modules()) == 16
    assert not any(isinstance(m, BinaryConv2d) and m.kernel_size != (3, 3) for m in model.modules())


def test_the_signal_passes_by_every_convolution():
    model = BiRealNet((2, 1), width=4, classes=3, in_channels=1).eval()
    for block in model.layers:
        nn.init.zeros_(block.norm.weight)
    x = model.stem(torch.randn(2, 1, 32, 32))
    assert torch.equal(model.layers[:2](x), x)
    assert torch.equal(model.layers(x), model.layers[2].shortcut(x))
