"""Runs that are killed at random moments until they are done, against one that is not."""

import random
import signal
from collections.abc import Sequence
from pathlib import Path
from time import monotonic
from typing import Any, NamedTuple

from kills.resumable import Resumable
from training.forks import processes
from training.small_runs import differences

GRACE = 5.0
"""Seconds after which launchers, Lightning's or torchrun, kill what worked with a process that died."""


class Count(NamedTuple):
    """How often runs were killed until they were done, how many runs, what differed, how many survivors were ended."""

    kills: int
    runs: int
    differences: set[str]
    stuck: int


def killed_at_random(
    stack: Resumable, folder: Path, kills: int, expected: dict[str, Any], seconds: float, seed: int = 0
) -> Count:
    """Kill `kills` times, at moments of the unbroken run's length, and compare each run with what that one left."""
    chance, done, runs, waiting = random.Random(seed), 0, 0, 0
    different: set[str] = set()
    while done < kills:
        place, runs = folder / str(runs), runs + 1
        place.mkdir()
        while True:
            moment = chance.uniform(0, seconds) if done < kills else None
            killed, stuck = is_killed(stack.start(place), moment, chance)
            if not killed:
                break
            done, waiting = done + 1, waiting + stuck
        different |= differences(expected, stack.outcome(place))
    return Count(done, runs, different, waiting)


def unbroken(stack: Resumable, folder: Path) -> tuple[dict[str, Any], float]:
    """What a run leaves, and its seconds."""
    warm = processes.Process(target=int)  # starts what all others are forked from
    warm.start()
    warm.join()
    folder.mkdir(parents=True)
    began = monotonic()
    assert not is_killed(stack.start(folder))[0]
    return stack.outcome(folder), monotonic() - began


def is_killed(work: Sequence[Any], after: float | None = None, chance: random.Random | None = None) -> tuple[bool, int]:
    """Whether a process was killed before it was done, by us after so many seconds or by itself.

    Of several we kill one, or all; and how many of the others did not end by themselves, and were ended.
    """
    until = None if after is None else monotonic() + after
    for process in work:
        process.join(None if until is None else max(0.0, until - monotonic()))
    victims = list(work) if chance is None or chance.random() < 0.3 else [chance.choice(work)]
    for process in victims:
        process.kill()
        process.join()
    killed = any(process.exitcode == -signal.SIGKILL for process in victims)
    assert killed or not any(process.exitcode for process in victims)
    stuck = _end(work) if killed else 0
    for process in work:
        process.join()
    return killed, stuck


def _end(work: Sequence[Any]) -> int:
    """End processes as launchers do, those that waited in vain too; how many there were."""
    until, stuck = monotonic() + GRACE, 0
    for process in work:
        process.join(max(0.0, until - monotonic()))
        stuck += process.exitcode is None
        process.kill()
    return stuck
