"""Off-the-shelf networks for 8 x 8 digits, with a ReLU before every binary layer."""

from torch import nn

from proxconnect.training.models.residual import PublishedBlock, ResidualNet


def mlp(has_norms: bool = False, width: int = 64) -> nn.Sequential:
    """Build three hidden layers of `width` with ReLU, with batch norm before it if `has_norms`, and a head."""
    layers: list[nn.Module] = [nn.Flatten()]
    for inputs in (64, width, width):
        layers += [nn.Linear(inputs, width), *([nn.BatchNorm1d(width)] if has_norms else []), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(width, 10))


def resnet() -> ResidualNet:
    """Build a residual network in the published order: two stages of two blocks, 8 and 16 channels."""
    return ResidualNet(1, 10, PublishedBlock, lambda _: nn.ReLU(), widths=(8, 16), blocks=2)
