"""Training that is killed at random moments, in each stack, against a run that is not; prints a table.

Run from tests/: python -m kills.run [STACK ...]. "killed" are moments at which SIGKILL came until runs were done,
"runs" those that were compared with the unbroken one to the last bit, "stuck" processes that still waited for a killed
one five seconds later, when a launcher ends them. The status is 1 where something differs.
"""

import sys
import tempfile
import time
from pathlib import Path

from kills.killing import killed_at_random, unbroken
from kills.resumable import RESUMABLE

KILLS = 50


def main(chosen: list[str]) -> int:
    print(f"{'stack':12}{'killed':>8}{'runs':>6}{'different':>11}{'stuck':>7}{'seconds':>9}")
    wrong = []
    for name in chosen or RESUMABLE:
        begun = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            whole = unbroken(RESUMABLE[name], Path(folder) / "unbroken")
            kills, runs, different, stuck = killed_at_random(RESUMABLE[name], Path(folder), KILLS, *whole)
        seconds = time.perf_counter() - begun
        print(f"{name:12}{kills:8}{runs:6}{len(different):11}{stuck:7}{seconds:9.0f}", flush=True)
        wrong += [f"{name}: {what}" for what in sorted(different)]
    print("\n".join(wrong[:50]))
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
