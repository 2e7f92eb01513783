"""Residual networks from the study's to the probe's, one option at a time."""

from collections.abc import Callable
from typing import Literal

from torch import nn

from proxconnect.training.models.residual import PublishedBlock, ResidualConv, ResidualNet

ACTIVATIONS: dict[str, Callable[[int], nn.Module]] = {
    "relu": lambda _: nn.ReLU(),
    "prelu": nn.PReLU,
    "none": lambda _: nn.Identity(),
}
WIDTHS = (8, 16, 32)


def residual(
    order: Literal["published", "bireal"] = "published",
    convs: int = 4,
    stem_stride: int = 1,
    activation: Literal["relu", "prelu", "none"] = "relu",
    start: Literal["he", "torch"] = "he",
) -> ResidualNet:
    """Build a network for Fashion-MNIST: a stem, three stages of `convs` convolutions (8, 16, 32 channels), and a head.

    Args:
        order: of the layers, "published" (a shortcut for two convolutions) or "bireal" (one for each).
        convs: convolutions in a stage, an even number in the published order.
        stem_stride: the stride of the stem.
        activation: the nonlinearity of the blocks. The stem of a network without one has a ReLU.
        start: the initial weights, "he" (normal, He 2015) or "torch" (uniform, 2.3 times smaller on average).
    """
    stem = ACTIVATIONS["relu" if activation == "none" else activation]
    block, blocks = (PublishedBlock, convs // 2) if order == "published" else (ResidualConv, convs)
    net = ResidualNet(1, 10, block, stem, widths=WIDTHS, blocks=blocks, stem_stride=stem_stride)
    for number, child in enumerate(net.stages):
        for name in [name for name, _ in child.named_children() if name.startswith("activation")]:
            setattr(child, name, ACTIVATIONS[activation](WIDTHS[number // blocks]))
    for module in net.modules():
        if start == "he" and isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
    return net
