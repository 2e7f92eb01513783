"""What `import proxconnect` costs beyond `import torch`, in fresh interpreters, the two in turn.

Run: python benchmarks/import_time.py [ROUNDS]
"""

import statistics
import subprocess
import sys

BEFORE = "import time; t = time.perf_counter(); "
AFTER = "; print(time.perf_counter() - t)"


def seconds(statement: str) -> float:
    """The time that `statement` takes in a fresh interpreter."""
    command = [sys.executable, "-c", BEFORE + statement + AFTER]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def main(rounds: int) -> None:
    """Print median and range of both, and of their difference round by round."""
    pairs = [(seconds("import torch"), seconds("import torch, proxconnect")) for _ in range(rounds + 1)][1:]
    columns = {
        "import torch": [torch for torch, _ in pairs],
        "import torch, proxconnect": [both for _, both in pairs],
        "difference": [both - torch for torch, both in pairs],
    }
    for name, values in columns.items():
        print(f"{name:26} median {statistics.median(values):.3f} s, {min(values):.3f} to {max(values):.3f}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10)
