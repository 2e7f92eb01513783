"""A user's short flow and every verb of the command in one process and a temporary folder, as small as they go.

Python's option `-W error` holds for the imports, the flow and the commands `STRICT`. Arguments are further commands.
"""

import gc
import json
import multiprocessing
import os
import sys
import warnings
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace

from short_flow import flow

from proxconnect._support import processes
from proxconnect.cli.command import main

MODULE = """
import torch
from torch import nn


def net():
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3), nn.Flatten(), nn.Linear(128, 5))


def row(configuration, folder, on_progress):
    return {"accuracy": {"hard": 0.5, "soft": 0.5, "reestimated": 0.5}, "curve": [], "seconds": 1.0, "steps": 1}


net.example = torch.ones(1, 3, 8, 8)
"""
GRID = {"run": "small_net:row", "base": {}, "axes": {"seed": [0], "pair": {"bc": {}}}}
SEARCH = {
    "run": "small_net:row", "spaces": {"a": {"parameters": {"lr": [1, 2]}, "set": {"lr": "$lr"}}},
    "rounds": [{"candidates": 2}],
}  # fmt: skip
RECIPE = {
    "data": {"class_path": "Digits", "init_args": {"batch_size": 512}}, "seed_everything": 1,
    "model": {"network": {"name": "small_cnn"}, "binary": {"weights": "bnn"}},
    "trainer": {"max_epochs": 1, "accelerator": "cpu", "default_root_dir": "run", "enable_progress_bar": False},
}  # fmt: skip
"""Both JSON, which YAML can read."""

STRICT = {"demo --help": 0, "check bnn+": 1, "check bnn++ --mu 2": 0}
"""Commands that warn of nothing, and their exit status."""
SLOW = ["bench small_net:net --rounds 1 --batch 1"]
"""Commands that measure for seconds."""
COMMANDS = [
    "check bnn", "completion bash", "fit --config recipe.yaml", "validate --config recipe.yaml --ckpt_path last",
    "test --config recipe.yaml --ckpt_path last", "summary run/last.ckpt", "summary run/network.safetensors",
    "study grid.yaml --workers 1", "discover search.yaml --workers 1 --folder found",
    "demo --pairs bnn --modes BW --starts E2E --seeds 1 --epochs 1 --workers 1 --out demo",
    "pack net.pt --model small_net:net -o net.safetensors",
    "export net.safetensors --model small_net:net --to onnx -o net.onnx",
    "export net.safetensors --model small_net:net --to qonnx -o net.q.onnx",
    "export net.safetensors --model small_net:net --to openvino -o net.xml",
    "export net.safetensors --model small_net:net --to float -o floats.safetensors",
]  # fmt: skip


def prepare() -> None:
    """Files of the current folder: the module, the grid, the recipe, a checkpoint."""
    import torch

    import proxconnect as pc

    Path("small_net.py").write_text(MODULE)
    Path("grid.yaml").write_text(json.dumps(GRID))
    Path("search.yaml").write_text(json.dumps(SEARCH))
    Path("recipe.yaml").write_text(json.dumps(RECIPE))
    sys.path.insert(0, "")
    import small_net  # type: ignore[import-not-found]  # it was written above

    torch.save(pc.binarize(small_net.net(), "bnn").state_dict(), "net.pt")


def fork_workers() -> None:
    """Fork the processes that commands start, instead of spawning them, since imports take seconds."""
    forking = multiprocessing.get_context("fork")
    processes.multiprocessing = SimpleNamespace(get_context=lambda _: forking)  # type: ignore[assignment]


if __name__ == "__main__":
    fork_workers()
    with TemporaryDirectory() as folder:
        os.chdir(folder)
        flow(Path(folder))
        for command in STRICT:
            print("exit status", main(command.split()), "of", command, flush=True)
        warnings.resetwarnings()
        prepare()
        for command in [*COMMANDS, *sys.argv[1:]]:
            gc.freeze()  # `pack` and studies look for garbage themselves
            print("exit status", main(command.split()), "of", command, flush=True)
