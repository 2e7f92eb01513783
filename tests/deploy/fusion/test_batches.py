"""Large batches in parts."""

from functools import partial

import pytest
import torch
from nets import binary, by_layers, image, plain, residual
from torch import Tensor, nn

import proxconnect as pc
from proxconnect.deploy.fusion import images, layer_by_layer
from proxconnect.deploy.fusion.graph_modules import graph_forward
from proxconnect.deploy.fusion.trace import trace
from proxconnect.training.models.bireal import bireal_resnet18

pytestmark = pytest.mark.skipif(not pc.kernels.is_built(), reason="the kernels were not built")


class Mixing(nn.Module):
    """An answer for an image that depends on the others."""

    def __init__(self, mix) -> None:
        super().__init__()
        self.body, self.mix = residual()[:4].append(nn.Conv2d(16, 3, 1)), mix

    def forward(self, images: Tensor) -> Tensor:
        return self.mix(self.body(images))


MIXES = [
    lambda x: x.mean((0, 2, 3)),
    lambda x: x - x.mean(0, keepdim=True),
    lambda x: x.flatten(),
    lambda x: torch.flatten(x),
    lambda x: torch.cat([x, x]),
    lambda x: x.flip(0),
    lambda x: x.sum(),
    lambda x: x.view(1, -1),
    lambda x: (x, x),
    lambda x: x.softmax(0),
    lambda x: x.flatten(1).mean((-2,)),
    lambda x: x.mean((2, 3)) + x.mean((1, 2, 3)),  # rows and columns: three images and one
    lambda x: x.mean((1, 2, 3)) * x.mean((1, 2, 3), keepdim=True),
    nn.MaxPool2d(2, return_indices=True),
]


def parts(model: nn.Module, x: Tensor, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of the batches in which the graph ran, which answers as the layers do."""
    ran = []
    fused = graph_forward(model)
    run = fused._run
    monkeypatch.setattr(fused, "_run", lambda some: (ran.append(some), run(some))[1])
    answer = model(x)
    with layer_by_layer(model):
        expected = torch.cat([model(some.contiguous(memory_format=torch.channels_last)) for some in ran])
    torch.testing.assert_close(answer, expected, rtol=0, atol=0)
    return [len(some) for some in ran]


@pytest.mark.parametrize("build", [residual, plain, partial(bireal_resnet18, width=8, classes=3)])
def test_a_large_batch_runs_in_parts(build, monkeypatch):
    model = pc.pack(binary(build()))
    model(image())
    assert parts(model, image(batch=7), monkeypatch) == [7]
    assert parts(model, image(batch=0), monkeypatch) == [0]
    monkeypatch.setattr(images, "_BYTES", 3 * image(batch=1).nbytes)
    assert parts(model, image(batch=7), monkeypatch) == [3, 3, 1]


@pytest.mark.parametrize("mix", MIXES)
def test_what_mixes_images_runs_at_once(mix, monkeypatch):
    monkeypatch.setattr(images, "_BYTES", 1)
    model = pc.pack(binary(Mixing(mix)))
    x = image(batch=3).contiguous()
    for _ in range(2):
        answer = model(x)
    torch.testing.assert_close(answer, by_layers(model, x), rtol=1e-4, atol=1e-4)
    assert not graph_forward(model)._are_apart


def test_a_norm_without_statistics_takes_those_of_the_batch():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, track_running_stats=False)).eval()
    assert not images.are_apart(trace(model, type(model).forward).graph, dict(model.named_modules()))
    model[1] = nn.BatchNorm2d(4).eval()
    assert images.are_apart(trace(model, type(model).forward).graph, dict(model.named_modules()))
