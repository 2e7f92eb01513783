"""The law of readers: what a file may do to the process that reads it, whatever the file holds.

A reader returns, or raises a ValueError with a message, or an OSError; nothing else. What it was given stays as it was.
It takes no more memory than the file's size allows, no more time than `LONGEST`, and no code of the file runs.
"""

import resource
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from proxconnect.inspection.memory import own_peak, reset_peak

LONGEST = 2.0
"""Seconds of the processor's time that one reading may take."""
HUNG = 20
"""Seconds of the clock after which a reading counts as one that never ends."""
LEAST_MEMORY, MEMORY_PER_BYTE = 48 << 20, 64
"""What a reading may add to the process: a constant, for what is imported and cached, and this many times the file."""
CLAIMABLE = 4 << 30
"""Address space that a reading may ask for beyond what the process has; beyond it an allocation fails."""

FORBIDDEN = {
    "os.system", "os.exec", "os.fork", "os.posix_spawn", "os.remove", "os.rename", "os.rmdir", "os.mkdir",
    "subprocess.Popen", "socket.connect", "ctypes.dlopen",
}  # fmt: skip
"""What no reader does by itself, by the names of Python's audit events."""


class LawBroken(AssertionError):  # noqa: N818  # it is a finding, not a state of this program
    """A file that a reader must not answer so."""


@dataclass(frozen=True)
class Reader:
    """Something that reads a file: `read` gets the path and a fresh thing to read into, whose state is `state_of`."""

    name: str
    read: Callable[[Path, Any], object]
    seeds: Callable[[], list[bytes]]
    mutate: Callable[..., bytes]
    into: Any = None
    state_of: Callable[[Any], object] = lambda into: None
    suffix: str = ""
    patience: float = 1.0
    """How many times `LONGEST` a reading may take."""


def was_read(reader: Reader, data: bytes, path: Path) -> bool:
    """Whether the reader took a file of these bytes; LawBroken where it did neither that nor refuse it properly."""
    path.write_bytes(data)
    before = reader.state_of(reader.into)
    try:
        with _bounded(len(data), reader.patience * LONGEST):
            reader.read(path, reader.into)
    except (ValueError, OSError) as error:
        if not str(error).strip():
            raise LawBroken(f"{type(error).__name__} without a message") from error
        taken = False
    except LawBroken:
        raise
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        raise LawBroken(f"{type(error).__name__}: {error}") from error
    else:
        taken = True
    if reader.state_of(reader.into) != before:
        raise LawBroken("what was given is not as it was")
    return taken


@contextmanager
def _bounded(size: int, seconds: float) -> Iterator[None]:
    """LawBroken for code of the file that runs, and for more time, or memory than a file of that size may take."""
    reset_peak()
    held, begun = _resident(), time.process_time()
    refusal = None
    try:
        with _watched(), _limited_claims(), _alarmed():
            yield
    except (ValueError, OSError) as error:
        refusal = error
    took, grown = time.process_time() - begun, (own_peak() or 0) - held
    if took > seconds:
        raise LawBroken(f"it took {took:.1f} s for {size} bytes")
    if grown > LEAST_MEMORY + MEMORY_PER_BYTE * size:
        raise LawBroken(f"it took {grown >> 20} MiB for {size} bytes")
    if refusal is not None:
        raise refusal


@contextmanager
def _limited_claims() -> Iterator[None]:
    """Allocations fail that together ask for more than `CLAIMABLE`."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (_virtual() + CLAIMABLE, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


@contextmanager
def _alarmed() -> Iterator[None]:
    before = signal.signal(signal.SIGALRM, _hung)
    signal.setitimer(signal.ITIMER_REAL, HUNG)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _hung(number: int, frame: FrameType | None) -> None:
    raise LawBroken(f"it went on for {HUNG} s")


_WATCHING: list[bool] = []


@contextmanager
def _watched() -> Iterator[None]:
    """LawBroken, there where it happens, for what only code of a file would do."""
    if not _WATCHING:
        sys.addaudithook(_refuse_deeds)
    _WATCHING.append(True)
    try:
        yield
    finally:
        _WATCHING[:] = [False]


def _refuse_deeds(event: str, arguments: tuple[object, ...]) -> None:
    if _WATCHING and _WATCHING[-1] and event in FORBIDDEN:
        raise LawBroken(f"it did {event}{arguments!r}")


def _resident() -> int:
    return _pages()[1]


def _virtual() -> int:
    return _pages()[0]


def _pages() -> tuple[int, int]:
    """The bytes of address space and of main memory that this process has, as Linux says."""
    total, resident = Path("/proc/self/statm").read_text().split()[:2]
    return int(total) * resource.getpagesize(), int(resident) * resource.getpagesize()
