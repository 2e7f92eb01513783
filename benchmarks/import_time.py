"""What `import proxconnect` costs after `import torch`, in fresh interpreters.

Run: python benchmarks/import_time.py [ROUNDS]
"""

import statistics
import subprocess
import sys

PROGRAM = """
from time import perf_counter
start = perf_counter()
import torch
middle = perf_counter()
import proxconnect
print(middle - start, perf_counter() - middle)
"""


def one_round() -> tuple[float, float]:
    """The seconds that the two imports take in a fresh interpreter."""
    command = [sys.executable, "-c", PROGRAM]
    torch, ours = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    return float(torch), float(ours)


def main(rounds: int) -> None:
    """Print median and range of both, after a round that is not counted."""
    one_round()
    for name, values in zip(
        ("torch", "proxconnect"), zip(*(one_round() for _ in range(rounds)), strict=True), strict=True
    ):
        print(f"import {name:12} median {statistics.median(values):.3f} s, {min(values):.3f} to {max(values):.3f}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10)
