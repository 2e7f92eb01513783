"""Small random networks: packed and fused, they answer as the hard binary ones, to the bit."""

from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from nets import binary
from torch import Tensor, nn

import proxconnect as pc

pytestmark = pytest.mark.skipif(not pc.kernels.is_built(), reason="the kernels were not built")

ACTIVATIONS = {
    "none": lambda _: nn.Identity(),
    "relu": lambda _: nn.ReLU(),
    "relu in place": lambda _: nn.ReLU(inplace=True),
    "relu6": lambda _: nn.ReLU6(),
    "hardtanh": lambda _: nn.Hardtanh(-0.5, 2.0),
    "prelu": nn.PReLU,
    "prelu of one": lambda _: nn.PReLU(),
    "leaky": lambda _: nn.LeakyReLU(0.3, inplace=True),
    "gelu": lambda _: nn.GELU(),
    "silu": lambda _: nn.SiLU(),
    "hardswish": lambda _: nn.Hardswish(),
    "dropout": lambda _: nn.Dropout(0.5),
}
POOLS = {"max": lambda: nn.MaxPool2d(2, ceil_mode=True), "average": lambda: nn.AvgPool2d(3, 1, 1), "none": nn.Identity}


@dataclass(frozen=True)
class Stage:
    """A convolution and what stands around it."""

    channels: int
    kernel: int
    stride: int
    groups: int
    padding_mode: str
    bias: bool
    norm: bool
    order: str
    """Where the shortcut is added: "none", or "before" or "after" the activation."""
    activation: str
    pool: str
    in_place: bool


stages = st.builds(
    Stage,
    channels=st.sampled_from([8, 24, 64]),
    kernel=st.sampled_from([1, 3]),
    stride=st.sampled_from([1, 1, 2]),
    groups=st.sampled_from([1, 1, 8]),
    padding_mode=st.sampled_from(["zeros", "zeros", "reflect"]),
    bias=st.booleans(),
    norm=st.booleans(),
    order=st.sampled_from(["none", "none", "before", "after"]),
    activation=st.sampled_from(sorted(ACTIVATIONS)),
    pool=st.sampled_from(sorted(POOLS)),
    in_place=st.booleans(),
)


class Step(nn.Module):
    """One stage, with its shortcut."""

    def __init__(self, inputs: int, stage: Stage) -> None:
        super().__init__()
        outputs, self.stage = stage.channels, stage
        padding = {"padding": stage.kernel // 2, "padding_mode": stage.padding_mode}
        self.conv = nn.Conv2d(
            inputs, outputs, stage.kernel, stage.stride, groups=stage.groups, bias=stage.bias, **padding
        )
        self.norm = nn.BatchNorm2d(outputs) if stage.norm else nn.Identity()
        self.activation = ACTIVATIONS[stage.activation](outputs)
        self.pool = POOLS[stage.pool]()
        fits = (inputs, stage.stride) == (outputs, 1)
        self.shortcut = nn.Identity() if fits else nn.Conv2d(inputs, outputs, 1, stage.stride)

    def forward(self, image: Tensor) -> Tensor:
        hidden = self.norm(self.conv(image))
        if self.stage.order == "none":
            return self.pool(self.activation(hidden))
        if self.stage.order == "after":
            return self.pool(self.activation(hidden) + self.shortcut(image))
        if self.stage.in_place:
            hidden += self.shortcut(image)
            return self.pool(self.activation(hidden))
        return self.pool(self.activation(torch.add(self.shortcut(image), hidden)))


def network(stages: list[Stage]) -> nn.Module:
    widths = [8, *(stage.channels for stage in stages)]
    steps = [Step(inputs, stage) for inputs, stage in zip(widths, stages, strict=False)]
    head = [nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4 * widths[-1], 40), nn.BatchNorm1d(40), nn.Linear(40, 3)]
    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), *steps, *head)


@settings(max_examples=40)
@given(
    stages=st.lists(stages, min_size=1, max_size=4),
    overflow=st.sampled_from([None, None, "wrap", "saturate", "cyclic"]),
    seed=st.integers(0, 2**32),
)
def test_packed_equals_hard(stages, overflow, seed):
    torch.manual_seed(seed)
    accumulator = None if overflow is None else pc.Accumulator(bits=6, overflow=overflow)
    model = binary(network(stages), accumulator=accumulator)
    x = torch.randn(2, 3, 30, 28).contiguous(memory_format=torch.channels_last)
    packed = pc.pack(model)
    assert not packed.packing.fusion.reasons
    for image in (x, x[:1]):
        torch.testing.assert_close(packed(image), model(image), rtol=0, atol=0, equal_nan=True)
