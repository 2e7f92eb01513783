"""Many runs, one after another or in worker processes of one thread each."""

import multiprocessing
import os
import signal
import threading
import traceback
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import NamedTuple

from proxconnect.demo.experiment import Outcome, Recipe, Run, State, train
from proxconnect.training import data

OnEpoch = Callable[[], None]


class WorkerError(RuntimeError):
    """A worker process failed or died; the message says how."""


def available_cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def in_turn(runs: Sequence[Run], recipe: Recipe, dataset: data.Dataset, on_epoch: OnEpoch) -> Generator[Outcome]:
    """Train `runs` in this process; the float run of a seed must come before those that fine-tune it."""
    floats: dict[int, State] = {}
    for run in runs:
        initial = floats[run.seed] if run.start == "FT" else None
        outcome = train(run, recipe, dataset, initial, on_epoch)
        if run.is_float:
            floats[run.seed] = outcome.state
        yield outcome


def in_parallel(
    runs: Sequence[Run], recipe: Recipe, name: str, root: Path | None, count: int, on_epoch: OnEpoch
) -> Generator[Outcome]:
    """Train `runs` in `count` processes, each of which loads the data set `name` itself; outcomes as they come.

    Fine-tuning waits for the float run of its seed. However the iteration ends, the processes end with it. WorkerError
    where one failed.
    """
    from safetensors.torch import load, save

    waiting, floats = list(runs), dict[int, State]()
    with _started(count, recipe, name, root) as crew:
        idle, busy = list(crew), dict[Connection, _Worker]()
        while waiting or busy:
            ready = [run for run in waiting if run.start == "E2E" or run.seed in floats]
            for run, worker in zip(ready, idle[:], strict=False):
                worker.send((run, save(floats[run.seed]) if run.start == "FT" else None))
                waiting.remove(run)
                idle.remove(worker)
                busy[worker.connection] = worker
            for connection in wait(list(busy)):
                worker = busy[connection]  # type: ignore[index]  # wait() is typed for sockets and handles too
                reply = worker.receive()
                if reply is None:
                    on_epoch()
                    continue
                outcome = replace(reply[0], state=load(reply[1]))
                idle.append(busy.pop(worker.connection))
                if outcome.run.is_float:
                    floats[outcome.run.seed] = outcome.state
                yield outcome


class _Worker(NamedTuple):
    """A process and this end of its pipe. Tensors cross it as the bytes of a safetensors file."""

    process: SpawnProcess
    connection: Connection

    def send(self, order: tuple[Run, bytes | None]) -> None:
        try:
            self.connection.send(order)
        except OSError as error:
            raise self._death() from error

    def receive(self) -> tuple[Outcome, bytes] | None:
        """An outcome without its state, and that as bytes; None after an epoch."""
        try:
            reply: tuple[Outcome, bytes] | str | None = self.connection.recv()
        except (EOFError, OSError) as error:
            raise self._death() from error
        if isinstance(reply, str):
            raise WorkerError(f"a run failed in a worker process:\n{reply}")
        return reply

    def _death(self) -> WorkerError:
        self.process.join(timeout=5)
        return WorkerError(
            f"a worker process died with exit code {self.process.exitcode} (-9 is often a lack of memory): "
            "try again with --workers 1"
        )


@contextmanager
def _started(count: int, recipe: Recipe, name: str, root: Path | None) -> Iterator[list[_Worker]]:
    """`count` workers; they ignore Ctrl-C, which is for this process, and are terminated at the end."""
    context = multiprocessing.get_context("spawn")
    crew: list[_Worker] = []
    try:
        with _interrupts_ignored():
            for _ in range(count):
                here, there = context.Pipe()
                process = context.Process(target=_work, args=(there, recipe, name, root), daemon=True)
                process.start()
                there.close()
                crew.append(_Worker(process, here))
        yield crew
    finally:
        for worker in crew:
            worker.process.terminate()
        for worker in crew:
            worker.process.join()
            worker.connection.close()


@contextmanager
def _interrupts_ignored() -> Iterator[None]:
    """Ignore SIGINT, as processes that are started meanwhile will from their first instruction on."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _work(connection: Connection, recipe: Recipe, name: str, root: Path | None) -> None:
    """What a worker process does: train what it is sent until the pipe closes."""
    import torch
    from safetensors.torch import load, save

    torch.set_num_threads(1)
    try:
        dataset = data.load(name, root)
        while True:
            run, initial = connection.recv()
            state = None if initial is None else load(initial)
            outcome = train(run, recipe, dataset, state, lambda: connection.send(None))
            connection.send((replace(outcome, state={}), save(outcome.state)))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return
    except Exception:
        connection.send(traceback.format_exc())
