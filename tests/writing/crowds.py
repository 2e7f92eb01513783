"""Processes that save to one path at the same time, and processes that are killed while they save."""

import os
import random
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count as numbers
from pathlib import Path
from typing import IO, NamedTuple

from writing.law import WAIT, Count, Trial
from writing.writers import Writer

LOOKS = 200
MOMENTS = 50
MOST_SAVES = 4
"""More than one, so that a killed process has left either version."""


class Saver(NamedTuple):
    """A process that saves until its other end of the pipe is closed or it is killed."""

    number: int
    saves: IO[bytes]
    """Gives a byte for each save that is done."""


@contextmanager
def saving(trial: Trial, folder: Path, versions: list[int]) -> Iterator[Saver]:
    """A process that saves the versions in turn."""
    here, there = os.pipe()
    child = os.fork()
    if child == 0:
        signal.alarm(WAIT)
        os.close(here)
        status = 1
        try:
            for done in numbers():
                trial.write(folder, versions[done % len(versions)])
                os.write(there, b".")
        except BrokenPipeError:
            status = 0
        finally:
            os._exit(status)
    os.close(there)
    with os.fdopen(here, "rb", buffering=0) as saves:
        yield Saver(child, saves)


def two_at_once(writer: Writer, looks: int = LOOKS) -> Count:
    """Two processes save to one path, each its version; what is read meanwhile and at the end is whole.

    They save until so many looks are done and have met both versions, however slow the machine is.
    """
    count, trial = Count(), Trial(writer, writer.prepare(), has_old=True)
    with trial.folder() as folder:
        with saving(trial, folder, [0]) as one, saving(trial, folder, [1]) as two:
            begun = time.monotonic()
            while (count.writes < looks or not (count.old and count.new)) and time.monotonic() - begun < WAIT:
                look(trial, folder, f"reading {count.writes}", count)
        for saver in (one, two):
            if status := os.waitpid(saver.number, 0)[1]:
                count.wrong.append(f"a process ended with {os.waitstatus_to_exitcode(status)}")
        look(trial, folder, "the end", count)
        stray = [path.name for path in folder.iterdir() if path.name.startswith(".")]
        if stray:
            count.wrong.append(f"the end: {stray} are left")
    return count


def killed_at_random(writer: Writer, moments: int = MOMENTS) -> Count:
    """A process that saves both versions in turn is killed at a moment during one of its saves, again and again."""
    count, trial, random_of = Count(), Trial(writer, writer.prepare(), has_old=True), random.Random(0)
    with trial.folder() as folder:
        for moment in range(moments):
            with saving(trial, folder, [0, 1]) as saver:
                begun, saves = time.perf_counter(), random_of.randint(1, MOST_SAVES)
                while saves > 0 and (done := saver.saves.read(saves)):
                    saves -= len(done)
                time.sleep(random_of.uniform(0, time.perf_counter() - begun) / MOST_SAVES)
                os.kill(saver.number, signal.SIGKILL)
                if os.waitstatus_to_exitcode(os.waitpid(saver.number, 0)[1]) != -signal.SIGKILL:
                    count.wrong.append(f"kill {moment}: the process had ended before")
            look(trial, folder, f"kill {moment}", count)
    return count


def look(trial: Trial, folder: Path, when: str, count: Count) -> None:
    found = trial.writer.read(folder)
    count.writes += 1
    count.old, count.new = count.old + (found == trial.before), count.new + (found == trial.after)
    if found not in (trial.before, trial.after):
        count.wrong.append(f"{when}: neither version is whole")
