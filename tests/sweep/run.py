"""The whole sweep: every network in every mode, in processes that may die, and a report that goes on where it stopped.

Run from tests/: python -m sweep.run [--only timm] [--workers 2]. What the report has of the present sources and
libraries is not run again; docs/networks.md is made of it. The exit status is 1 where a network fails.
"""

import argparse
import json
import sys
import tempfile
import time
import warnings
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from importlib import import_module, metadata
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

from proxconnect.study.provenance import sources
from sweep.flow import MODES, go_through
from sweep.subject import Subject
from sweep.table import written

LIBRARIES = ("timm", "torchvision", "transformers")
DOCS = Path(__file__).parents[2] / "docs"
REPORT, TABLE = DOCS / "networks.jsonl", DOCS / "networks.md"
ROWS_OF_A_PROCESS = 12
"""After which another one takes its place, as memory grows."""


def subjects(library: str) -> dict[str, Subject]:
    found: dict[str, Subject] = import_module(f"sweep.{library}_models").MODELS
    return found


def attempt(library: str, name: str, mode: str) -> dict[str, Any]:
    """One line of the report."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    begun, said, error = time.perf_counter(), "", None
    try:
        with tempfile.TemporaryDirectory() as folder:
            said = go_through(subjects(library)[name], mode, Path(folder))
    except Exception as fault:  # that is what the report is for
        error = f"{type(fault).__name__}: {' '.join(str(fault).split())[:300]}"
    return line(library, name, mode, said=said, error=error, seconds=round(time.perf_counter() - begun, 1))


def line(library: str, name: str, mode: str, **found: Any) -> dict[str, Any]:
    versions = {what: metadata.version(what) for what in ("torch", library)}
    return {"library": library, "name": name, "mode": mode, **found, "sources": sources(), "versions": versions}


def key(entry: dict[str, Any]) -> tuple[str, ...]:
    return (entry["library"], entry["name"], entry["mode"], entry["sources"], *map(str, entry["versions"].items()))


def reported() -> list[dict[str, Any]]:
    return [json.loads(text) for text in REPORT.read_text().splitlines()] if REPORT.exists() else []


def left(libraries: list[str]) -> list[tuple[str, str, str]]:
    """What the report lacks, or has as a failure."""
    done = {key(entry) for entry in reported() if entry["error"] is None}
    rows = [(library, name, mode) for library in libraries for name in subjects(library) for mode in MODES]
    return [row for row in rows if key(line(*row)) not in done]


def sweep(rows: list[tuple[str, str, str]], workers: int) -> None:
    """Run the rows, each lot by new processes; one that dies takes its row along, and the rest goes on."""
    rows = list(rows)
    while rows:
        lot = rows[: ROWS_OF_A_PROCESS * workers]
        with ProcessPoolExecutor(workers, get_context("spawn")) as pool:
            futures = {pool.submit(attempt, *row): row for row in lot}
            for future in as_completed(futures):
                try:
                    note(future.result())
                except BrokenProcessPool:
                    continue
                rows.remove(futures[future])
        if rows and rows[0] == lot[0]:
            note(line(*rows.pop(0), said="", error="its process died", seconds=0.0))


def note(entry: dict[str, Any]) -> None:
    with REPORT.open("a", encoding="utf-8") as report:
        report.write(json.dumps(entry) + "\n")
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
