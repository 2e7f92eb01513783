"""The tests that compute, on each machine that this one can stand in for; prints a table.

Run from tests/: python -m machines.run [ROW ...]. The status is 1 where a test fails.
"""

import os
import re
import subprocess
import sys
import time
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from machines.rows import ROWS, Row

ROOT = Path(__file__).parents[2]
COMPUTING = ("kernels", "deploy", "export", "numbers", "test_ships.py", "test_networks.py")
"""What `make test-machines` runs, below tests/."""


@dataclass(frozen=True)
class Outcome:
    """What a run of pytest printed last."""

    passed: int
    skipped: int
    failures: tuple[str, ...]


def run(row: Row, tests: Iterable[str], workers: int) -> Outcome:
    """Run tests as a row says; RuntimeError where pytest could not run them."""
    paths = [f"tests/{test}" for test in tests]
    options = ["-p", "machines.plugin", "-p", "no:cacheprovider", "-n", str(workers), "--tb=short", "-rfE"]
    command = [sys.executable, "-m", "pytest", *options, *row.options, *paths]
    environment = {**os.environ, **row.variables(), **_folders(row)}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment)
    if done.returncode not in (0, 1):
        raise RuntimeError(f"pytest ended with {done.returncode}:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    *_, last = done.stdout.strip().splitlines()
    failures = re.findall(r"^(?:FAILED|ERROR) (.*)", done.stdout, flags=re.MULTILINE)
    return Outcome(_count("passed", last), _count("skipped", last), tuple(failures))


def _folders(row: Row) -> dict[str, str]:
    """Where pytest finds the plugin, and where torch keeps what it compiled, which it tells apart by no limit."""
    paths = [str(ROOT / "tests"), *filter(None, [os.environ.get("PYTHONPATH")])]
    if row.is_emulated:
        paths.insert(0, str(Path(__file__).parent / "emulated"))
    compiled = ROOT / "build" / "machines" / format(zlib.crc32(repr(row).encode()), "08x")
    return {"PYTHONPATH": os.pathsep.join(paths), "TORCHINDUCTOR_CACHE_DIR": str(compiled)}


def _count(word: str, line: str) -> int:
    found = re.search(rf"(\d+) {word}", line)
    return int(found[1]) if found else 0


def main(chosen: list[str]) -> int:
    """Run all rows, or those chosen, and return the exit status."""
    if unknown := set(chosen) - set(ROWS):
        sys.exit(f"no row is called {', '.join(sorted(unknown))}; there are: {', '.join(ROWS)}")
    print(f"{'machine':26}{'passed':>8}{'skipped':>9}{'failed':>8}{'seconds':>9}")
    status = 0
    for name in chosen or ROWS:
        if lack := ROWS[name].missing():
            print(f"{name:26}  not run: {lack}", flush=True)
            continue
        begun = time.perf_counter()
        outcome = run(ROWS[name], COMPUTING, len(os.sched_getaffinity(0)))
        seconds = time.perf_counter() - begun
        failed = len(outcome.failures)
        print(f"{name:26}{outcome.passed:8}{outcome.skipped:9}{failed:8}{seconds:9.0f}", flush=True)
        for failure in outcome.failures:
            print(f"  {failure}", flush=True)
            status = 1
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
