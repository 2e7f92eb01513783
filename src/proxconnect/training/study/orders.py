"""What a worker is told to do, what it answers, and the doing: the same in a process here and on a Ray cluster."""

import json
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import torch

from proxconnect._support.atomic import replacing
from proxconnect._support.termination import TerminatedError
from proxconnect.training.study.locks import locked
from proxconnect.training.study.overrides import Configuration
from proxconnect.training.study.provenance import here


@dataclass(frozen=True)
class Order:
    """Run a row in its folder, from where an earlier run of it stopped, with so many threads."""

    key: str
    run: str
    configuration: Configuration
    folder: Path
    threads: int


@dataclass(frozen=True)
class Progressed:
    """So many optimizer steps of a row are done, of so many."""

    key: str
    done: int
    total: int


@dataclass(frozen=True)
class Finished:
    """What a row measured, with what, and when, UTC."""

    key: str
    measured: dict[str, Any]
    versions: dict[str, Any]
    started: str
    finished: str


@dataclass(frozen=True)
class Failed:
    """A row raised, or the process that ran it died."""

    key: str
    error: str


Event = Progressed | Finished | Failed


class DriverGoneError(BaseException):
    """Nobody waits for the row any longer; no row may catch it, hence not an Exception."""


FINISHED = "finished.json"
"""What a finished row answered, in its folder, so that it never runs twice even where the driver did not hear it."""


def perform(order: Order, on_progress: Callable[[Progressed], None]) -> Finished | Failed:
    """Run a row. What its code raises becomes the answer; what ends a process passes."""
    torch.set_num_threads(order.threads)
    try:
        order.folder.mkdir(parents=True, exist_ok=True)
        # A worker that outlived its driver may be at this row until its next step.
        with locked(order.folder / "lock"):
            return _read(order) or _run(order, on_progress)
    except TerminatedError:
        raise
    except (Exception, SystemExit):
        return Failed(order.key, traceback.format_exc())


def _run(order: Order, on_progress: Callable[[Progressed], None]) -> Finished:
    started = now()
    measured = resolve_name(order.run)(
        order.configuration, order.folder, lambda progress: on_progress(Progressed(order.key, *progress))
    )
    finished = Finished(order.key, measured, here(order.threads), started, now())
    with replacing(order.folder / FINISHED) as temporary:
        temporary.write_text(json.dumps(asdict(finished)), encoding="utf-8")
    return finished


def _read(order: Order) -> Finished | None:
    """What the row answered before, if it did."""
    path = order.folder / FINISHED
    return Finished(**json.loads(path.read_text(encoding="utf-8"))) if path.exists() else None


def now() -> str:
    """The time, UTC, to the second."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
