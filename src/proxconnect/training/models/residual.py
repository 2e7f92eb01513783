"""Residual networks that serve full precision, binary weights and binary activations alike.

Every convolution is followed by batch norm, and all but the first have a shortcut of their own, as in Bi-Real Net (Liu
2018, arXiv 1808.00278), which carries the real-valued signal past the binary one. PReLU (He 2015, arXiv 1502.01852) is
the nonlinearity, since a ReLU before a sign would leave +1 alone.
"""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional


class ResidualConv(nn.Module):
    """PReLU(BN(conv3x3(x)) + shortcut(x)).

    The shortcut has no parameters (option A of He 2016, arXiv 1512.03385): where the stride is 2 it averages 2 x 2, and
    new channels are zeros.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(out_channels)
        self.activation = nn.PReLU(out_channels)
        self.stride = stride
        self.new_channels = out_channels - in_channels

    def forward(self, x: Tensor) -> Tensor:
        """(N, C_in, H, W) → (N, C_out, ⌈H/stride⌉, ⌈W/stride⌉)."""
        shortcut = x if self.stride == 1 else functional.avg_pool2d(x, self.stride, ceil_mode=True)
        if self.new_channels:
            shortcut = functional.pad(shortcut, (0, 0, 0, 0, 0, self.new_channels))
        output: Tensor = self.activation(self.norm(self.conv(x)) + shortcut)
        return output


class ResidualNet(nn.Module):
    """A 3x3 stem, stages of `ResidualConv` that halve the resolution from the second on, mean pooling, a linear head.

    Args:
        in_channels, classes: of the images and of the answer.
        widths: channels of each stage.
        convs: convolutions in each stage.
        stem_stride: stride of the stem; 2 halves the resolution of everything.
    """

    def __init__(
        self, in_channels: int, classes: int, *, widths: Sequence[int], convs: int, stem_stride: int = 1
    ) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(in_channels, widths[0], 3, stride=stem_stride, padding=1, bias=False),
            nn.BatchNorm2d(widths[0]),
            nn.PReLU(widths[0]),
        )
        stages: list[nn.Module] = []
        for stage, width in enumerate(widths):
            before = widths[max(stage - 1, 0)]
            stages.append(ResidualConv(before, width, stride=1 if stage == 0 else 2))
            stages.extend(ResidualConv(width, width) for _ in range(convs - 1))
        self.stages = nn.Sequential(*stages)
        self.head = nn.Linear(widths[-1], classes)

    def forward(self, images: Tensor) -> Tensor:
        """(N, in_channels, H, W) → logits (N, classes)."""
        features = self.stages(self.stem(images)).mean((-2, -1))
        logits: Tensor = self.head(features)
        return logits


def small_cnn(in_channels: int = 1, classes: int = 10) -> ResidualNet:
    """Six layers for images of 8 x 8: a stem that halves them, two convolutions each of 32 and 64 channels, a head."""
    return ResidualNet(in_channels, classes, widths=(32, 64), convs=2, stem_stride=2)


def resnet20(in_channels: int = 1, classes: int = 10, width: int = 16, stem_stride: int = 1) -> ResidualNet:
    """ResNet-20 in its CIFAR form (three stages of six convolutions; width, 2·width, 4·width), shortcuts as above."""
    return ResidualNet(in_channels, classes, widths=(width, 2 * width, 4 * width), convs=6, stem_stride=stem_stride)
