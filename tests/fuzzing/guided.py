"""Readers under files that atheris makes, guided by what of the readers' code each one reaches.

Run from tests/: python -m fuzzing.guided --reader packed --runs 100000 [--corpus FOLDER] [--seed 1], after
`pip install atheris`. Most changes know the parts of the file, as those of `fuzzing.seeded` do. The first
finding ends the run, its file is written as `crash-…` where the program runs, and the exit status is not 0.
What was reached stays in the folder of the corpus, from which another run goes on.
"""

import argparse
import gc
import sys
import warnings
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from types import FunctionType

import atheris
import torch

from fuzzing.changes import LARGEST
from fuzzing.law import HUNG, Reader, was_read
from fuzzing.packed_files import resealed
from fuzzing.readers import READERS
from fuzzing.seeded import warm

PACKAGES = ("proxconnect", "yaml", "json", "pickle", "zipfile", "gzip", "PIL", "torch._weights_only_unpickler")
"""Whose functions tell atheris where they go; what is written in C tells nothing."""

_SHORTEST = 16
"""Bytes of a file worth a change that knows its parts; atheris tends to keep shorter ones."""


def instrument() -> int:
    """Have the functions of PACKAGES, of those modules that were imported, tell where they go; how many they are.

    Not by `atheris.instrument_imports`: it says that it instruments an editable install and does not, since the loader
    of one hands its work on to another; and it is too late for what torch has imported.
    """
    functions = [found for found in gc.get_objects() if isinstance(found, FunctionType) and _is_ours(found)]
    for function in functions:
        atheris.instrument_func(function)
    return len(functions)


def _is_ours(function: FunctionType) -> bool:
    return any(f"{function.__module__}.".startswith(f"{package}.") for package in PACKAGES)


def guide(reader: Reader, runs: int, seed: int, corpus: Path, folder: Path) -> None:
    """Let the reader read; does not come back."""
    path, seeds = folder / f"file{reader.suffix}", reader.seeds()
    for number, data in enumerate(seeds):
        (corpus / f"seed-{number}").write_bytes(data)
    warm(reader, path)
    print(f"{instrument():,} functions guide", flush=True)

    def look(data: bytes) -> None:
        was_read(reader, data, path)

    def change(data: bytes, most: int, number: int) -> bytes:
        random = Random(number)
        if random.random() < 0.2:
            return resealed(bytes(atheris.Mutate(data, most)))
        whole = data if len(data) > _SHORTEST and random.random() < 0.5 else random.choice(seeds)
        return reader.mutate(whole, random, seeds)[:most]

    options = [
        f"-runs={runs}",
        f"-seed={seed}",
        f"-max_len={LARGEST}",
        f"-timeout={2 * HUNG}",
        "-rss_limit_mb=0",
        "-mutate_depth=1",
    ]
    atheris.Setup(
        [sys.argv[0], *options, "-print_final_stats=1", "-verbosity=1", str(corpus)], look, custom_mutator=change
    )
    atheris.Fuzz()


def main() -> None:
    """What the head of this file says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--reader", choices=[*READERS], required=True)
    parser.add_argument("--runs", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--corpus", type=Path)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    with TemporaryDirectory() as folder:
        corpus = options.corpus or Path(folder) / "corpus"
        corpus.mkdir(parents=True, exist_ok=True)
        guide(READERS[options.reader], options.runs, options.seed, corpus, Path(folder))


if __name__ == "__main__":
    main()
