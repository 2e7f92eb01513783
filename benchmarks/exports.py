"""Packed networks as other runtimes run them, beside our own: size of the file, time, and how far answers are apart.

Bi-Real ResNet-18 with binary weights and activations, and DeiT-tiny with binary weights, one image of 224 x 224, one
pinned thread, all runtimes of a table in one interleaved run. Weights are untrained. QONNX files hold
floats and are run by nothing fast, so that they are not timed.

Run: python benchmarks/exports.py [--rounds 31] (about three minutes; needs timm and the extra `export`)
"""

import argparse
import os
import tempfile
from pathlib import Path

import torch
from rich import box
from rich.console import Console
from rich.table import Table

import proxconnect as pc
from proxconnect._support.example import tensors_in
from proxconnect.cli.bench.tables import milliseconds
from proxconnect.cli.bench.timing import Spread, interleaved, quotients
from proxconnect.cli.networks import difference, named, run
from proxconnect.export.formats import FORMATS

CASES = {"bireal_resnet18": "poly", "deit_tiny_patch16_224": None}
"""The pair of the activations, by network."""
TIMED = {"onnx": "net.onnx", "openvino": "net.xml"}


def measure(name: str, rounds: int) -> Table:
    torch.manual_seed(0)
    network = named(name)
    model = network.build().eval()
    assert network.example is not None
    example = network.example(model)
    packed = pc.pack(pc.binarize(model, "bnn++", CASES[name], keep=network.keep).eval(), vectors="float16")
    works, sizes, apart = {"packed": lambda: run(packed, example)}, {}, {"packed": 0.0}
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        pc.save(packed, Path(folder, "net.safetensors"))
        sizes["packed"] = Path(folder, "net.safetensors").stat().st_size
        expected = tensors_in(run(packed, example))
        for form, file in TIMED.items():
            with torch.inference_mode(False):
                FORMATS[form].write(packed, example, Path(folder, file))
            sizes[form] = FORMATS[form].size(Path(folder, file))
            works[form] = _bound(FORMATS[form].run(Path(folder, file), network.build), example)
            apart[form] = difference(expected, works[form]())
        seconds = interleaved(works, rounds, turn=0.1)
    made = Table(title=network.title, title_justify="left", box=box.SIMPLE_HEAD)
    for head in ("", "ms", "x packed", "bytes", "x packed", "|Δ| ≤"):
        made.add_column(head, justify="right" if head else "left")
    for form, times in seconds.items():
        slower = Spread.of(quotients(times, seconds["packed"]))
        title = FORMATS[form].runtime if form in FORMATS else "proxconnect"
        made.add_row(title, milliseconds(Spread.of(times).median),
                     f"{slower.median:.2f} ({slower.low:.2f}-{slower.high:.2f})", f"{sizes[form]:,}",
                     f"{sizes[form] / sizes['packed']:.3f}", f"{apart[form]:.1g}")  # fmt: skip
    return made


def _bound(runtime, example):
    return lambda: runtime(example)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=31)
    rounds = parser.parse_args().rounds
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:1])
    torch.set_num_threads(1)
    for name in CASES:
        Console().print(measure(name, rounds))


if __name__ == "__main__":
    main()
