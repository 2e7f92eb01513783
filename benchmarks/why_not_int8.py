"""Binary networks beside float and 8-bit ones: accuracy, latency, files and memory, of the same files.

Each contender is a file: torch's, ONNX Runtime's and OpenVINO's in float32 and in 8 bits (static, calibrated on
training inputs by onnxruntime.quantization, and by NNCF for transformers in OpenVINO), and ours with binary weights
(BW) and inputs (BWA), also with the remainder in 8 bits. The file that is timed also classifies the whole test set, one
input at a time. A fresh process loads it and runs it twice: by how much its memory is then larger than after its
imports ("held"), by how much it was at most ("peak"), and all of it ("process"). Times are medians and quartiles of one
interleaved run of all contenders, on one pinned thread.

Run: python benchmarks/why_not_int8.py resnet20 --runs FOLDER [--rounds 31] [--record FILE]

FOLDER of resnet20 has the folders float, BW and BWA, each a run of `proxconnect fit` or a row of a study; that of
minilm has rows of studies/sst2. The other subjects are untrained. Files and accuracies are kept in --folder, which
`--prepare` fills without timing anything, in a folder of these very weights. Needs onnxruntime, onnx, onnxscript,
openvino and nncf. Linux only. docs/binary-or-int8.md has the tables of benchmarks/recorded/why_not_int8.jsonl.
"""

import argparse
import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy
import torch
from rich import box
from rich.console import Console
from rich.table import Table

import artefacts
import int8_files
from artefacts import Artefact, Inputs, accuracy
from int8_files import Subject
from int8_subjects import SUBJECTS
from proxconnect.cli.bench.tables import milliseconds
from proxconnect.cli.bench.timing import Spread, interleaved
from proxconnect.inspection.machine import Machine

PACKAGES = ("torch", "onnxruntime", "openvino", "nncf")

TURN = 0.01
"""The least seconds of a turn of each contender in a round."""


def accuracies(subject: Subject, folder: Path) -> dict[str, float]:
    """Return the accuracies of all files by their names, and keep them in the folder as they are found."""
    kept = folder / "accuracies.json"
    found: dict[str, float] = json.loads(kept.read_text()) if kept.exists() else {}
    for one in int8_files.artefacts(subject):
        if subject.test and one.file not in found:
            found[one.file] = accuracy(one.opened(folder), subject.test)
            kept.write_text(json.dumps(found))
            print(f"{one.title}: {100 * found[one.file]:.2f} %", file=sys.stderr, flush=True)
    return found


def seconds(subject: Subject, folder: Path, rounds: int) -> dict[str, tuple[float, ...]]:
    """Time all files, interleaved, on the first core of this process."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:1])
    works = {one.file: partial(one.opened(folder), subject.example) for one in int8_files.artefacts(subject)}
    return interleaved(works, rounds, TURN)


def memory(one: Artefact, folder: Path, example: Inputs) -> dict[str, int]:
    """Return the memory of a fresh process that opens a file and runs it; see artefacts.py."""
    numpy.savez(folder / "example.npz", *example)
    told = json.dumps(dataclasses.asdict(one))
    command = [sys.executable, artefacts.__file__, str(folder), told, str(folder / "example.npz")]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    found: dict[str, int] = json.loads(done.stdout.splitlines()[-1])
    return found


def measured(name: str, subject: Subject, folder: Path, rounds: int) -> list[dict[str, Any]]:
    """Return an entry of the record for each contender."""
    shares = accuracies(subject, folder)
    about = {
        "subject": name, "title": subject.title, "machine": dataclasses.asdict(Machine.here()),
        "versions": {package: version(package) for package in PACKAGES},
        "input": [list(array.shape) for array in subject.example], "tested": len(subject.test),
        "calibrated": len(subject.calibration), "rounds": rounds,
    }  # fmt: skip
    taken = seconds(subject, folder, rounds)
    return [
        about | {
            "contender": one.title, "accuracy": shares.get(one.file), "bytes": one.bytes(folder),
            "latency": dataclasses.asdict(Spread.of(taken[one.file])), "seconds": taken[one.file],
            "memory": memory(one, folder, subject.example),
        }
        for one in int8_files.artefacts(subject)
    ]  # fmt: skip


def table(entries: Sequence[dict[str, Any]]) -> Table:
    """Make a table of 80 columns from the entries of a subject."""
    made = Table(title=entries[0]["title"], title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0),
                 pad_edge=False)  # fmt: skip
    made.add_column("", no_wrap=True)
    for heading in ("%", "ms", "quartiles", "MB on\ndisk", "MB\nheld", "MB\npeak", "MB of\nprocess"):
        made.add_column(heading, justify="right", no_wrap=True)
    for entry in entries:
        share, (low, median, high) = entry["accuracy"], map(milliseconds, entry["latency"].values())
        sizes = entry["bytes"], *(entry["memory"][key] for key in ("held", "peak", "process"))
        made.add_row(
            entry["contender"], "" if share is None else f"{100 * share:.2f}", median, f"{low}-{high}",
            *(f"{size / 1e6:.{digits}f}" for size, digits in zip(sizes, (2, 0, 0, 0), strict=True)),
        )  # fmt: skip
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("subject", choices=SUBJECTS)
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="the trained networks, in folders by mode")
    parser.add_argument("--folder", type=Path, default=Path("runs", "why_not_int8"), help="of files that are kept")
    parser.add_argument("--title", help='of the table, as "ResNet-20, CIFAR-10 (JPEG)"')
    parser.add_argument("--prepare", action="store_true", help="write the files and test them, but time nothing")
    parser.add_argument("--rounds", type=int, default=31)
    parser.add_argument("--record", type=Path, metavar="FILE", help="add a line of JSON for each contender to it")
    given = parser.parse_args()
    torch.set_num_threads(1)
    subject = SUBJECTS[given.subject](given.runs)
    if given.title:
        subject = dataclasses.replace(subject, title=given.title)
    folder = int8_files.written(subject, given.folder)
    if given.prepare:
        accuracies(subject, folder)
        return
    entries = measured(given.subject, subject, folder, given.rounds)
    console = Console(width=80, highlight=False)
    console.print(str(Machine.here()), table(entries), sep="\n")
    if given.record:
        with given.record.open("a") as record:
            print(*map(json.dumps, entries), sep="\n", file=record)


if __name__ == "__main__":
    main()
