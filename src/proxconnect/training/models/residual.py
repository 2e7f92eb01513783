"""Residual networks for small images, in two orders.

In the *published order* (He 2016, arXiv 1512.03385) a shortcut spans two convolutions and ReLU is the nonlinearity: for
binary weights. In *Bi-Real order* (Liu 2018, arXiv 1808.00278) each convolution has its own shortcut, which carries the
real-valued signal past the binary one, and PReLU (He 2015, arXiv 1502.01852) is the nonlinearity, since only +1 is left
of a ReLU before a sign: for binary weights and activations.

No shortcut has parameters (option A of He 2016): new channels are zeros.
"""

from collections.abc import Callable, Sequence
from functools import partial

from torch import Tensor, nn
from torch.nn import functional

from proxconnect.layers.prelu import PReLU

Block = Callable[[int, int, int], nn.Module]  # from input channels, output channels and stride to a part of a stage


class PublishedBlock(nn.Module):
    """A block of two convolutions (He 2016); its shortcut takes every `stride`-th pixel, with zeros as new channels."""

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(out_channels)
        self.activation1 = nn.ReLU()
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(out_channels)
        self.activation2 = nn.ReLU()
        self.stride = stride
        self.new_channels = out_channels - in_channels

    def forward(self, x: Tensor) -> Tensor:
        """Return ReLU(BN(conv3x3(ReLU(BN(conv3x3(x))))) + shortcut(x)): (N, out_channels, ⌈H/stride⌉, ⌈W/stride⌉)."""
        shortcut = x if self.stride == 1 else x[:, :, :: self.stride, :: self.stride]
        inner = self.activation1(self.norm1(self.conv1(x)))
        output: Tensor = self.activation2(self.norm2(self.conv2(inner)) + _widened(shortcut, self.new_channels))
        return output


class ResidualConv(nn.Module):
    """A block of one convolution; its shortcut averages `stride` x `stride` pixels, with zeros as new channels."""

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(out_channels)
        self.activation = PReLU(out_channels)
        self.stride = stride
        self.new_channels = out_channels - in_channels

    def forward(self, x: Tensor) -> Tensor:
        """Return PReLU(BN(conv3x3(x)) + shortcut(x)), of shape (N, out_channels, ⌈H/stride⌉, ⌈W/stride⌉)."""
        shortcut = x if self.stride == 1 else functional.avg_pool2d(x, self.stride, ceil_mode=True)
        output: Tensor = self.activation(self.norm(self.conv(x)) + _widened(shortcut, self.new_channels))
        return output


def _widened(image: Tensor, new_channels: int) -> Tensor:
    """Append channels of zeros."""
    return functional.pad(image, (0, 0, 0, 0, 0, new_channels)) if new_channels else image


def stages(block: Block, widths: Sequence[int], counts: Sequence[int]) -> nn.Sequential:
    """Return a sequence of blocks: stage i has `counts[i]` of `widths[i]` channels, the first of stride 2 if i > 0."""
    layers: list[nn.Module] = []
    channels = widths[0]
    for stage, (width, count) in enumerate(zip(widths, counts, strict=True)):
        for number in range(count):
            layers.append(block(channels, width, 2 if stage > 0 and number == 0 else 1))
            channels = width
    return nn.Sequential(*layers)


class ResidualNet(nn.Module):
    """A residual network for small images: a 3 x 3 stem, stages of blocks, mean pooling and a linear head.

    Stage i has `blocks` blocks of `widths[i]` channels. Each stage but the first halves the resolution. `block` makes a
    block from input channels, output channels and stride; `activation` makes that of the stem from its channels.
    """

    def __init__(
        self, in_channels: int, classes: int, block: Block, activation: Callable[[int], nn.Module], *,
        widths: Sequence[int], blocks: int, stem_stride: int = 1,
    ) -> None:  # fmt: skip
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(in_channels, widths[0], 3, stride=stem_stride, padding=1, bias=False),
            nn.BatchNorm2d(widths[0]),
            activation(widths[0]),
        )
        self.stages = stages(block, widths, [blocks] * len(widths))
        self.head = nn.Linear(widths[-1], classes)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits (N, classes) for `images` (N, in_channels, H, W)."""
        logits: Tensor = self.head(self.stages(self.stem(images)).mean((-2, -1)))
        return logits


def small_cnn(in_channels: int = 1, classes: int = 10) -> ResidualNet:
    """Build a stem of stride 2, two residual convolutions of 32 channels, two of 64, and a head, for tiny images."""
    return ResidualNet(in_channels, classes, ResidualConv, PReLU, widths=(32, 64), blocks=2, stem_stride=2)


def _of_cifar(
    block: type[PublishedBlock | ResidualConv], blocks: int, in_channels: int = 3, classes: int = 10, width: int = 16,
    stem_stride: int = 1,
) -> ResidualNet:  # fmt: skip
    """Build a ResNet for CIFAR; in the published order with the initial weights of He 2015, as He 2016 has them."""
    activation = PReLU if block is ResidualConv else lambda _: nn.ReLU()
    widths = (width, 2 * width, 4 * width)
    net = ResidualNet(in_channels, classes, block, activation, widths=widths, blocks=blocks, stem_stride=stem_stride)
    for module in net.modules():
        if block is PublishedBlock and isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
    return net


resnet20, resnet32, resnet56 = (partial(_of_cifar, PublishedBlock, blocks) for blocks in (3, 5, 9))
"""ResNets for CIFAR in the published order: three stages of 3, 5 or 9 blocks; width, 2·width, 4·width channels."""

bireal_resnet20, bireal_resnet32, bireal_resnet56 = (partial(_of_cifar, ResidualConv, convs) for convs in (6, 10, 18))
"""ResNets for CIFAR in Bi-Real order: three stages of 6, 10 or 18 convolutions."""
