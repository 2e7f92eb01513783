"""Many runs, one after another or in worker processes of one thread each."""

import traceback
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing.connection import Connection, wait
from pathlib import Path

from proxconnect._support import processes
from proxconnect._support.processes import Worker
from proxconnect.cli.demo.experiment import Outcome, Recipe, Run, State, train
from proxconnect.training import data

OnEpoch = Callable[[], None]


class WorkerError(RuntimeError):
    """A worker process failed or died; the message says how."""


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
        idle, busy = list(crew), dict[Connection, Worker]()
        while waiting or busy:
            ready = [run for run in waiting if run.start == "E2E" or run.seed in floats]
            for run, worker in zip(ready, idle[:], strict=False):
                _send(worker, (run, save(floats[run.seed]) if run.start == "FT" else None))
                waiting.remove(run)
                idle.remove(worker)
                busy[worker.connection] = worker
            for connection in wait(list(busy)):
                worker = busy[connection]  # type: ignore[index]  # wait() is typed for sockets and handles too
                reply = _receive(worker)
                if reply is None:
                    on_epoch()
                    continue
                outcome = replace(reply[0], state=load(reply[1]))
                idle.append(busy.pop(worker.connection))
                if outcome.run.is_float:
                    floats[outcome.run.seed] = outcome.state
                yield outcome


def _send(worker: Worker, order: tuple[Run, bytes | None]) -> None:
    """Tensors cross the pipe as the bytes of a safetensors file."""
    try:
        worker.connection.send(order)
    except OSError as error:
        raise WorkerError(f"{worker.death()}: try again with --workers 1") from error


def _receive(worker: Worker) -> tuple[Outcome, bytes] | None:
    """An outcome without its state, and that as bytes; None after an epoch."""
    try:
        reply: tuple[Outcome, bytes] | str | None = worker.connection.recv()
    except (EOFError, OSError) as error:
        raise WorkerError(f"{worker.death()}: try again with --workers 1") from error
    if isinstance(reply, str):
        raise WorkerError(f"a run failed in a worker process:\n{reply}")
    return reply


@contextmanager
def _started(count: int, recipe: Recipe, name: str, root: Path | None) -> Iterator[list[Worker]]:
    """`count` workers, which are terminated at the end."""
    crew: list[Worker] = []
    try:
        for _ in range(count):
            crew.append(processes.start(_work, recipe, name, root))
        yield crew
    finally:
        processes.end(crew)


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
