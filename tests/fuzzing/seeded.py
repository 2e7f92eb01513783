"""Readers under a given number of files that random changes make of good ones, the same for the same seed.

Run from tests/: python -m fuzzing.seeded [--reader packed] [--runs 20000] [--seed 0] [--keep FOLDER]. It prints for
each reader how many files it took and how many it refused, and how long the slowest took; each distinct finding is
printed, and the file that shows it is kept in FOLDER. The exit status is 1 where there is any.
"""

import argparse
import gc
import re
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import torch

from fuzzing.law import LawBroken, Reader, was_read
from fuzzing.readers import READERS

STEPS = 3
"""How often a file may be changed again, whose change was taken or not."""


def files(reader: Reader, seed: int) -> Iterator[bytes]:
    """Files without end: changes of seeds, and changes of these."""
    random, seeds = Random(seed), reader.seeds()
    while True:
        data = random.choice(seeds)
        for _ in range(random.randint(1, STEPS)):
            data = reader.mutate(data, random, seeds)
            yield data


def warm(reader: Reader, path: Path) -> None:
    """Let the reader import and load what it needs, which is no file's deed."""
    for data in reader.seeds():
        path.write_bytes(data)
        with suppress(ValueError):
            reader.read(path, reader.into)


def findings(reader: Reader, runs: int, seed: int, folder: Path) -> tuple[dict[str, bytes], Counter[bool], float]:
    """For each distinct finding a file that shows it; how many were taken and refused; the longest reading in s."""
    path, found, taken, longest = folder / f"file{reader.suffix}", dict[str, bytes](), Counter[bool](), 0.0
    warm(reader, path)
    gc.freeze()  # a collection goes through what the readings left, not through all that was imported
    for number, data in zip(range(runs), files(reader, seed), strict=False):
        begun = time.process_time()
        try:
            taken[was_read(reader, data, path)] += 1
        except LawBroken as broken:
            found.setdefault(re.sub(r"0x[0-9a-f]+|\d+(\.\d+)?", "N", str(broken))[:120], data)
        longest = max(longest, time.process_time() - begun)
        if number % 500 == 0:
            gc.collect()
    gc.unfreeze()
    return found, taken, longest


def main() -> int:
    """What the head of this file says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--reader", choices=[*READERS], action="append")
    parser.add_argument("--runs", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    wrong = 0
    for name in options.reader or READERS:
        begun = time.perf_counter()
        with TemporaryDirectory() as folder:
            found, taken, longest = findings(READERS[name], options.runs, options.seed, Path(folder))
        print(f"{name}: {options.runs:,} files in {time.perf_counter() - begun:.0f} s, {taken[True]:,} taken, "
              f"{taken[False]:,} refused, {len(found)} findings; longest {longest:.2f} s", flush=True)  # fmt: skip
        for what, data in found.items():
            print(f"  {what!a}")
            if options.keep:
                options.keep.mkdir(parents=True, exist_ok=True)
                (options.keep / f"{name}-{sha256(data).hexdigest()[:12]}").write_bytes(data)
        wrong += len(found)
    return bool(wrong)


if __name__ == "__main__":
    raise SystemExit(main())
