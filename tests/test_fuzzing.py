"""Every reader under thousands of changed files, and the law under readers that break it; `make fuzz` is more."""

import mmap
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fuzzing import law
from fuzzing.law import LawBroken, Reader, was_read
from fuzzing.readers import READERS
from fuzzing.seeded import files, findings

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memory is measured in /proc")

RUNS = {"packed": 400, "checkpoint": 250, "run": 160, "yaml": 40, "grid": 40, "search": 25, "ledger": 250,
        "configuration": 100, "idx": 500, "cifar": 250, "picture": 50, "parquet": 50, "gguf": 160}  # fmt: skip
"""Twelve times as many with `--full`."""


@pytest.mark.parametrize("name", READERS)
def test_changed_files_are_taken_or_refused_and_nothing_else(
    name: str, tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    runs = RUNS[name] * (12 if pytestconfig.getoption("full") else 1)
    found, taken, _ = findings(READERS[name], runs, 0, tmp_path)
    assert not found
    assert taken[True]
    assert taken[False]


@pytest.mark.parametrize("name", READERS)
def test_the_same_seed_makes_the_same_files(name: str) -> None:
    one, other = ([next(made) for _ in range(5)] for made in (files(READERS[name], 7), files(READERS[name], 7)))
    if name not in ("checkpoint", "run"):  # torch's archives have an identity of their own
        assert one == other


def test_the_checksum_hides_few_changed_files_from_the_checks_behind_it(tmp_path: Path) -> None:
    reader, path, refusals = READERS["packed"], tmp_path / "file.safetensors", []
    for data, _ in zip(files(reader, 0), range(300), strict=False):
        path.write_bytes(data)
        try:
            reader.read(path, reader.into)
        except (ValueError, OSError) as error:
            refusals.append("its checksum" in str(error))
    assert 0 < sum(refusals) < len(refusals) / 10


def _raise(error: BaseException) -> Callable[[Path, Any], object]:
    def read(path: Path, into: Any) -> object:
        raise error

    return read


BAD: dict[str, tuple[Callable[[Path, Any], object], str]] = {
    "another error": (_raise(KeyError("a")), "KeyError"),
    "exit": (_raise(SystemExit(1)), "SystemExit"),
    "no message": (_raise(ValueError("")), "without a message"),
    "a deed": (lambda path, into: os.mkdir(path.with_name("made")), "os.mkdir"),
    "a command": (lambda path, into: os.system("true"), "os.system"),
    "memory": (lambda path, into: _touch(256 << 20), "MiB for"),
    "a claim": (lambda path, into: bytearray(1 << 40), "MemoryError"),
    "time": (lambda path, into: _compute(law.LONGEST + 0.1), " s for"),
    "a change": (lambda path, into: into.append(1), "not as it was"),
}


def _touch(size: int) -> None:
    """Have that much memory for a moment, by no allocator, which might have it lying about."""
    with mmap.mmap(-1, size) as memory:
        for page in range(0, size, mmap.PAGESIZE):
            memory[page] = 1


def _compute(seconds: float) -> None:
    begun = time.process_time()
    while time.process_time() - begun < seconds:
        pass


@pytest.mark.parametrize("name", BAD)
def test_what_breaks_the_law(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if name == "time":
        monkeypatch.setattr(law, "LONGEST", 0.3)
    read, words = BAD[name]
    reader = Reader("bad", read, list, bytes, [0], lambda into: list(into))
    with pytest.raises(LawBroken, match=words):
        was_read(reader, b"data", tmp_path / "file")
    assert not (tmp_path / "made").exists()


def test_who_waits_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(law, "HUNG", 0.2)
    os.mkfifo(tmp_path / "pipe")
    reader = Reader("bad", lambda path, into: path.with_name("pipe").read_bytes(), list, bytes)
    with pytest.raises(LawBroken, match="went on"):
        was_read(reader, b"", tmp_path / "file")
