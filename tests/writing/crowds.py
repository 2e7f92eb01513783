"""Processes that save to one path at the same time, and processes that are killed while they save."""

import os
import random
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count as numbers
from pathlib import Path

from writing.law import WAIT, Count, Trial
from writing.writers import Writer

ROUNDS = 200
MOMENTS = 50


@contextmanager
def saving(trial: Trial, folder: Path, versions: list[int], rounds: int | None) -> Iterator[int]:
    """A process that saves the versions in turn, so often or until it is killed; its number."""
    child = os.fork()
    if child == 0:
        signal.alarm(WAIT)
        status = 1
        try:
            for done in numbers() if rounds is None else range(rounds):
                trial.write(folder, versions[done % len(versions)])
            status = 0
        finally:
            os._exit(status)
    yield child


def two_at_once(writer: Writer, rounds: int = ROUNDS) -> Count:
    """Two processes save to one path, each its version; what is read meanwhile and at the end is whole."""
    count, trial = Count(), Trial(writer, writer.prepare(), has_old=True)
    with trial.folder() as folder, saving(trial, folder, [0], rounds) as one, saving(trial, folder, [1], rounds) as two:
        left = {one, two}
        while left:
            look(trial, folder, f"reading {count.writes}", count)
            child, status = os.waitpid(-1, os.WNOHANG)
            left -= {child}
            if status:
                count.wrong.append(f"a process ended with {os.waitstatus_to_exitcode(status)}")
        look(trial, folder, "the end", count)
        stray = [path.name for path in folder.iterdir() if path.name.startswith(".")]
        if stray:
            count.wrong.append(f"the end: {stray} are left")
    return count


def killed_at_random(writer: Writer, moments: int = MOMENTS) -> Count:
    """A process that saves both versions in turn is killed at a moment, again and again."""
    count, trial, random_of = Count(), Trial(writer, writer.prepare(), has_old=True), random.Random(0)
    with trial.folder() as folder:
        for moment in range(moments):
            with saving(trial, folder, [0, 1], None) as child:
                time.sleep(random_of.uniform(0.005, 0.05))
                os.kill(child, signal.SIGKILL)
                if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != -signal.SIGKILL:
                    count.wrong.append(f"kill {moment}: the process had ended before")
            look(trial, folder, f"kill {moment}", count)
    return count


def look(trial: Trial, folder: Path, when: str, count: Count) -> None:
    found = trial.writer.read(folder)
    count.writes += 1
    count.old, count.new = count.old + (found == trial.before), count.new + (found == trial.after)
    if found not in (trial.before, trial.after):
        count.wrong.append(f"{when}: neither version is whole")
