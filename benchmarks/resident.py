"""What a loaded ResNet-18 holds in main memory over the process that is about to load it, before and after it runs.

Each figure is from a fresh process, which has imported torch, torchvision and proxconnect, built the architecture on
the meta device and made an image. Resident pages, of /proc/self/smaps, are told apart: those of the file, which all
processes that load it share; those that are in no file (panels, activations, what the allocator keeps); and those of
the libraries' code, torch's above all, which a first call reads from the disk, whatever the network. Linux only.

Run: OMP_NUM_THREADS=1 python benchmarks/resident.py [--batch 1]
"""

import argparse
import gc
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
import torchvision
from rich.console import Console
from rich.table import Table
from torch import nn

import proxconnect as pc

MODELS: dict[str, dict[str, Any]] = {"1-bit W": {}, "1-bit W and A": {"activations": "poly"}}
PACKS: dict[str, dict[str, Any]] = {"": {}, ", int8, float16": {"remainder": "int8", "vectors": "float16"}}
FLOAT = "float32"
KINDS = ("file", "anonymous", "libraries")


def resident(path: str) -> dict[str, int]:
    """Kilobytes by kind."""
    gc.collect()
    kilobytes = dict.fromkeys(KINDS, 0)
    of_file = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        key, *values = line.split()
        if not key.endswith(":"):
            of_file = line.endswith(path)
        elif key == "Rss:":
            kilobytes["file" if of_file else "libraries"] += int(values[0])
        elif key == "Anonymous:":
            kilobytes["anonymous"] += int(values[0])
            kilobytes["file" if of_file else "libraries"] -= int(values[0])
    return kilobytes


def be(path: str, batch: int) -> None:
    """Load, run and print what was resident at each stage."""
    torch.set_num_threads(1)
    with torch.device("meta"):
        architecture = torchvision.models.resnet18()
    image = torch.randn(batch, 3, 224, 224).to(memory_format=torch.channels_last)
    stages = [resident(path)]
    with torch.inference_mode():
        if path.endswith(".pt"):
            architecture.load_state_dict(torch.load(path, mmap=True), assign=True)
            model = architecture.eval()
        else:
            model = pc.load(path, architecture)
        stages.append(resident(path))
        model(image)
        stages.append(resident(path))
    print(json.dumps(stages))


def measured(path: Path, batch: int) -> list[dict[str, float]]:
    """Megabytes over the process before, loaded and after a run."""
    command = [sys.executable, __file__, "--be", str(path), "--batch", str(batch)]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    before, *after = json.loads(output.splitlines()[-1])
    return [{kind: (stage[kind] - before[kind]) / 1e3 for kind in KINDS} for stage in after]


def files(folder: Path) -> dict[str, Path]:
    """What is to be loaded, by what it is."""
    torch.manual_seed(0)
    model: nn.Module = torchvision.models.resnet18().eval()
    torch.save(model.state_dict(), folder / "float.pt")
    paths = {FLOAT: folder / "float.pt"}
    for name, binary in MODELS.items():
        model = pc.binarize(torchvision.models.resnet18(), weights="bnn++", **binary).eval()
        for kind, options in PACKS.items():
            paths[name + kind] = folder / f"{len(paths)}.safetensors"
            pc.save(pc.pack(model, **options), paths[name + kind])
    return paths


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--be", metavar="FILE", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.be:
        be(arguments.be, arguments.batch)
        return
    columns = [f"{stage}\n{kind}" for stage in ("loaded", "run") for kind in (*KINDS, "all")]
    table = Table("ResNet-18, MB", "on disk", *columns)
    with tempfile.TemporaryDirectory() as folder:
        for name, path in files(Path(folder)).items():
            stages = measured(path, arguments.batch)
            figures = [figure for stage in stages for figure in (*stage.values(), sum(stage.values()))]
            table.add_row(name, f"{path.stat().st_size / 1e6:.2f}", *(f"{figure:.1f}" for figure in figures))
    Console(width=140).print(table)


if __name__ == "__main__":
    main()
