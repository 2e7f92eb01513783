"""The whole sweep: every network in every mode, in processes that may die, and a report that goes on where it stopped.

Run from tests/: python -m sweep.run [--only timm] [--workers 2]. What the report has of the present sources and
libraries is not run again; docs/networks.md is made of it. The exit status is 1 where a network fails.
"""

import argparse
import json
import os
import sys
import tempfile
import time
import warnings
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from importlib import import_module, metadata
from itertools import chain, islice
from multiprocessing import get_context, parent_process
from pathlib import Path
from threading import Thread
from typing import Any

import torch
from torch import nn

from proxconnect.training.study.rows import sources
from sweep.flow import MODES, go_through, started
from sweep.subject import Subject
from sweep.table import written

LIBRARIES = ("timm", "torchvision", "transformers")
DOCS = Path(__file__).parents[2] / "docs"
REPORT, TABLE = DOCS / "networks.jsonl", DOCS / "networks.md"
NETWORKS_OF_A_PROCESS = 48
"""After which another one takes its place, as memory grows."""

KEEPING = {"MALLOC_MMAP_THRESHOLD_": "4000000000", "MALLOC_TRIM_THRESHOLD_": "4000000000"}
"""Has a process keep the memory of large tensors for the next ones: new pages took up to a third of the time."""


def subjects(library: str) -> dict[str, Subject]:
    found: dict[str, Subject] = import_module(f"sweep.{library}_models").MODELS
    return found


def attempt(library: str, name: str) -> list[dict[str, Any]]:
    """The lines of a network, one a mode."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    subject = subjects(library)[name]
    floats = started(subject)
    return [line(library, name, mode, **outcome(subject, floats, mode)) for mode in MODES]


def outcome(subject: Subject, floats: nn.Module, mode: str) -> dict[str, Any]:
    begun, said, error = time.perf_counter(), "", None
    try:
        with tempfile.TemporaryDirectory() as folder:
            said = go_through(subject, floats, mode, Path(folder))
    except Exception as fault:  # that is what the report is for
        error = f"{type(fault).__name__}: {' '.join(str(fault).split())[:300]}"
    return {"said": said, "error": error, "seconds": round(time.perf_counter() - begun, 1)}


def line(library: str, name: str, mode: str, **found: Any) -> dict[str, Any]:
    versions = {what: metadata.version(what) for what in ("torch", library)}
    return {"library": library, "name": name, "mode": mode, **found, "sources": sources(), "versions": versions}


def key(entry: dict[str, Any]) -> tuple[str, ...]:
    return (entry["library"], entry["name"], entry["mode"], entry["sources"], *map(str, entry["versions"].items()))


def reported() -> list[dict[str, Any]]:
    return [json.loads(text) for text in REPORT.read_text().splitlines()] if REPORT.exists() else []


def left(libraries: list[str]) -> list[tuple[str, str]]:
    """The networks of which the report lacks a mode, or has one as a failure."""
    done = {key(entry) for entry in reported() if entry["error"] is None}
    networks = [(library, name) for library in libraries for name in subjects(library)]
    return [network for network in networks if not all(key(line(*network, mode)) in done for mode in MODES)]


def sweep(networks: list[tuple[str, str]], workers: int) -> None:
    """Run them, so many at a time."""
    os.environ.update(KEEPING)
    waiting = deque(networks)
    with ThreadPoolExecutor(workers) as threads:
        try:
            for served in [threads.submit(serve, waiting) for _ in range(workers)]:
                served.result()
        finally:  # an interruption too
            waiting.clear()


def serve(waiting: deque[tuple[str, str]]) -> None:
    """Run one after another in a process, which another one follows where it dies or has run many."""
    networks = taken(waiting)
    for first in networks:
        with ProcessPoolExecutor(1, get_context("spawn"), initializer=leave_with_parent) as process:
            for network in chain([first], islice(networks, NETWORKS_OF_A_PROCESS - 1)):
                try:
                    note(process.submit(attempt, *network).result())
                except BrokenProcessPool:
                    note([line(*network, mode, said="", error="its process died", seconds=0.0) for mode in MODES])
                    break


def taken(waiting: deque[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """Each network that no other has taken."""
    with suppress(IndexError):
        while True:
            yield waiting.popleft()


def leave_with_parent() -> None:
    def wait() -> None:
        parent = parent_process()
        assert parent is not None
        parent.join()
        os._exit(1)

    Thread(target=wait, daemon=True).start()


def note(entries: list[dict[str, Any]]) -> None:
    with REPORT.open("a", encoding="utf-8") as report:
        report.write("".join(json.dumps(entry) + "\n" for entry in entries))
    for entry in entries:
        outcome = entry["error"] or entry["said"] or "passed"
        print(f"{entry['library']} {entry['name']} {entry['mode']}: {outcome} ({entry['seconds']} s)", flush=True)


def settle() -> list[dict[str, Any]]:
    """Leave the last line of each network and mode in the report, in order; the table."""
    last = {(e["library"], e["name"], e["mode"]): e for e in reported()}
    entries = [last[place] for place in sorted(last)]
    REPORT.write_text("".join(json.dumps(entry) + "\n" for entry in entries), encoding="utf-8")
    TABLE.write_text(written(entries), encoding="utf-8")
    return entries


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=LIBRARIES, action="append")
    parser.add_argument("--workers", type=int, default=2)
    parsed = parser.parse_args()
    sweep(left(parsed.only or list(LIBRARIES)), parsed.workers)
    return int(any(entry["error"] for entry in settle()))


if __name__ == "__main__":
    sys.exit(main())
