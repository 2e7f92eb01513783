"""Bi-Real Net (Liu 2018, arXiv 1808.00278): a ResNet with a shortcut around every binary convolution.

Signs of activations say little, so the output of each convolution is added to the real-valued signal before it. There
is no ReLU: only batch norm and the sum stand between a convolution and the next signs. ReActNet (Liu 2020, arXiv
2003.03488) learns where these signs change, and puts RPReLU behind each sum.
"""

from collections.abc import Sequence

from torch import Tensor, nn

from proxconnect.layers.react import RPReLU, Shift
from proxconnect.training.models.residual import Block, stages

KEEP = ("edges", "*.shortcut.*")
"""The layers that stay float in the paper: the stem, the 1 x 1 convolutions of shortcuts, the head."""


class BiRealConv(nn.Module):
    """A block of Bi-Real Net, in float: BN(conv3x3(x)) plus x or, if the shape changes, BN(conv1x1(pooled x))."""

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(out_channels)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            self.shortcut = nn.Sequential(
                nn.AvgPool2d(stride, ceil_mode=True) if stride != 1 else nn.Identity(),
                nn.Conv2d(in_channels, out_channels, 1, bias=False),
                nn.BatchNorm2d(out_channels),
            )

    def forward(self, x: Tensor) -> Tensor:
        """Return BN(conv3x3(x)) + shortcut(x), of shape (N, out_channels, ⌈H/stride⌉, ⌈W/stride⌉)."""
        output: Tensor = self.norm(self.conv(x)) + self.shortcut(x)
        return output


class ReactConv(BiRealConv):
    """A block of ReActNet: `BiRealConv` with a learned shift of each channel before the convolution, and RPReLU."""

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__(in_channels, out_channels, stride)
        self.shift = Shift(in_channels)
        self.activation = RPReLU(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Return RPReLU(BN(conv3x3(x + shift)) + shortcut(x)), of shape (N, out_channels, ⌈H/stride⌉, ⌈W/stride⌉)."""
        output: Tensor = self.activation(self.norm(self.conv(self.shift(x))) + self.shortcut(x))
        return output


class BiRealNet(nn.Module):
    """Bi-Real Net: a 7 x 7 stem of stride 2, max pooling, stages of blocks, mean pooling and a linear head.

    Stage i has `convs[i]` blocks of `width`·2^i channels; `block` makes one from both numbers of channels and a stride.
    """

    def __init__(
        self, convs: Sequence[int], width: int = 64, classes: int = 1000, in_channels: int = 3,
        block: Block = BiRealConv,
    ) -> None:  # fmt: skip
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(in_channels, width, 7, stride=2, padding=3, bias=False),
            nn.BatchNorm2d(width),
            nn.MaxPool2d(3, stride=2, padding=1),
        )
        widths = [width << stage for stage in range(len(convs))]
        self.layers = stages(block, widths, convs)
        self.head = nn.Linear(widths[-1], classes)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits (N, classes) for `images` (N, in_channels, H, W)."""
        logits: Tensor = self.head(self.layers(self.stem(images)).mean((-2, -1)))
        return logits


def bireal_resnet18(width: int = 64, classes: int = 1000, in_channels: int = 3) -> BiRealNet:
    """Build the float Bi-Real Net of 18 layers: stem, four stages of four convolutions (to be binarized), and head."""
    return BiRealNet((4, 4, 4, 4), width, classes, in_channels)


def react_resnet18(width: int = 64, classes: int = 1000, in_channels: int = 3) -> BiRealNet:
    """Build `bireal_resnet18` with ReActNet's learned thresholds and RPReLU."""
    return BiRealNet((4, 4, 4, 4), width, classes, in_channels, ReactConv)
