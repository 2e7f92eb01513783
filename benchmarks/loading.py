"""What loading a packed model costs: `load`, the prepacking in it, and the first and second call, on one thread.

Run: python benchmarks/loading.py [ROUNDS] (the networks need torchvision and timm)
"""

import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import perf_counter

import timm
import torch
import torchvision
from torch import Tensor, nn

import proxconnect as pc
from proxconnect.deploy.packed.layers.base import CompactLayer


def linears() -> nn.Module:
    """Sixteen layers of 4096 x 4096, between a first and a last one that stay float."""
    return nn.Sequential(nn.Linear(64, 4096), *(nn.Linear(4096, 4096) for _ in range(16)), nn.Linear(4096, 10))


NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "ResNet-18": (torchvision.models.resnet18, (1, 3, 224, 224)),
    "DeiT-tiny": (lambda: timm.create_model("deit_tiny_patch16_224"), (1, 3, 224, 224)),
    "16 linear layers of 4096²": (linears, (1, 64)),
}
"""How to make each network, and the shape of an input."""

STAGES = "load", "prepack again", "first call", "second call"


def milliseconds(work: Callable[[], object]) -> float:
    """The time that `work` takes."""
    start = perf_counter()
    work()
    return 1000 * (perf_counter() - start)


@torch.no_grad()
def one_round(path: Path, network: nn.Module, x: Tensor) -> list[float]:
    """The milliseconds of each stage."""
    loaded: list[nn.Module] = []
    load = milliseconds(lambda: loaded.append(pc.load(path, network)))
    layers = [layer for layer in loaded[0].modules() if isinstance(layer, CompactLayer)]
    calls = [milliseconds(lambda: loaded[0](x)) for _ in range(2)]
    return [load, milliseconds(lambda: [layer.prepack() for layer in layers]), *calls]


def main(rounds: int) -> None:
    """Print medians and ranges for each network, after a round that is not counted."""
    torch.set_num_threads(1)
    for name, (made, shape) in NETWORKS.items():
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.safetensors"
            pc.save(pc.pack(pc.binarize(made(), "bnn++")), path)
            size, network, x = path.stat().st_size, made(), torch.randn(shape)
            taken = zip(*[one_round(path, network, x) for _ in range(rounds + 1)][1:], strict=True)
            print(f"{name}, {size / 1e6:.1f} MB")
            for stage, values in zip(STAGES, taken, strict=True):
                print(f"  {stage:14} {statistics.median(values):7.2f} ms, {min(values):.2f} to {max(values):.2f}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 21)
