"""Means over all pixels by the kernel, beside torch's, to the bit."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from nets import binary, by_layers
from torch import Tensor, nn
from torch.nn import functional

import proxconnect as pc
from proxconnect.cli.bench.timing import threads
from proxconnect.deploy.fusion.graph_modules import graph_forward
from proxconnect.kernels.pixel_means import PixelMeans

pytestmark = pytest.mark.skipif(not pc.kernels.is_built(), reason="the kernels were not built")

MEANS: dict[str, tuple[Callable[[Tensor], Tensor], int]] = {
    "a method": (lambda x: x.mean((2, 3)), 1),
    "from behind": (lambda x: x.mean(dim=[-1, -2], keepdim=True).flatten(1), 1),
    "a function": (lambda x: torch.mean(x, (3, 2)), 1),
    "a pool": (lambda x: functional.adaptive_avg_pool2d(x, (1, 1)).flatten(1), 1),
    "of rows": (lambda x: x.mean((1, 2)).repeat(1, 2), 0),
    "in another dtype": (lambda x: x.mean((2, 3), dtype=torch.float64).float(), 0),
    "a larger pool": (lambda x: functional.adaptive_avg_pool2d(x, 2).flatten(1), 0),
    "of a mean": (lambda x: x.mean((2, 3)).mean(-2, keepdim=True) + 0 * x.mean((2, 3)), 2),
}


@pytest.mark.parametrize("instruction_set", pc.kernels.instruction_sets())
@pytest.mark.parametrize(("channels", "size"), [(64, (7, 7)), (512, (1, 1)), (128, (16, 17)), (64, (70, 60))])
def test_adds_in_torchs_order(instruction_set: str, channels: int, size: tuple[int, int]) -> None:
    x = torch.randn(3, channels, *size).contiguous(memory_format=torch.channels_last)
    with threads(1):  # with several, torch's order may depend on their number
        assert torch.equal(PixelMeans(False, instruction_set)(x), x.mean((2, 3)))
        assert torch.equal(PixelMeans(True, instruction_set)(x), functional.adaptive_avg_pool2d(x, 1))


def test_leaves_other_inputs_to_torch() -> None:
    x = torch.randn(2, 64, 5, 5)
    images = x.contiguous(memory_format=torch.channels_last)
    for other in (x, images.double(), images[:, :60], images[0], images[:0]):
        assert PixelMeans()(other) is None


class Net(nn.Module):
    """Images, their means and a head."""

    def __init__(self, channels: int, mean: Any) -> None:
        super().__init__()
        self.conv, self.head, self.mean = nn.Conv2d(3, channels, 3), nn.Linear(8, 5), mean

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.mean(self.conv(x))[:, :8])


@pytest.mark.parametrize("channels", [64, 40])
@pytest.mark.parametrize("name", MEANS)
@torch.no_grad()
def test_answers_as_the_layers_do(name: str, channels: int, monkeypatch: pytest.MonkeyPatch) -> None:
    mean, count = MEANS[name]
    monkeypatch.setattr("proxconnect.deploy.fusion.images._BYTES", 1)  # so that batches run in parts, if they may
    small: Any = pc.pack(binary(Net(channels, mean), keep=("head",)))
    fused = graph_forward(small)
    assert fused is not None
    assert fused.work.counts["means of images"] == count
    x = torch.randn(4, 3, 9, 9).contiguous(memory_format=torch.channels_last)
    for _ in range(2):  # the first answer is compared with the layers'
        answer = small(x)
        torch.testing.assert_close(answer, by_layers(small, x), rtol=1e-5, atol=1e-6)
