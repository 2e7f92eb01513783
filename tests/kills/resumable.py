"""A short run in each training stack, which goes on in its folder where it was stopped, and what it leaves."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from rich.console import Console
from torch import nn

from proxconnect._support.atomic import replacing
from proxconnect.training.study import ledger
from proxconnect.training.study import study as module
from proxconnect.training.study.rows import CHECKPOINT
from proxconnect.training.study.study import Study
from stacks.nets import STEPS, batches, net_and_optimizer, train
from training import small_runs
from training.ranks import RANKS, start_ranks
from training.small_runs import configuration, finish
from training.study.grids import InTurn, write_grid

LAST = "last.pt"
OF_THE_MACHINE = ("seconds", "peak_memory_bytes")
"""What a row measures of the machine, not of the network."""


class Resumable(NamedTuple):
    """`start` gives the processes that work in a folder; `outcome`, by name, all that they leave when they are done."""

    start: Callable[[Path], list[Any]]
    outcome: Callable[[Path], dict[str, Any]]


def plain_loop(folder: Path) -> None:
    """A loop of one's own, whose network draws from torch's generator."""
    torch.manual_seed(0)
    path = folder / LAST
    model, optimizer, _ = net_and_optimizer()
    model.insert(0, nn.Dropout(0.1))
    begin = 0
    if path.exists():
        saved = torch.load(path, weights_only=True)
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        torch.set_rng_state(saved["generator"])
        begin = saved["step"]
    for step, batch in enumerate(batches(5 * STEPS)[begin:], start=begin + 1):
        train(model, optimizer, [batch])
        content = {
            "model": model.state_dict(), "optimizer": optimizer.state_dict(), "generator": torch.get_rng_state(),
            "step": step,
        }  # fmt: skip
        with replacing(path) as temporary:
            torch.save(content, temporary)


def lightning_run(folder: Path) -> None:
    """Float, then binary, a checkpoint after each step."""
    finish(folder, model={"start": {"float_epochs": 1}}, checkpoint={"every_steps": 1})


def two_ranks(folder: Path) -> None:
    """By DDP over gloo."""
    finish(
        folder, trainer={"strategy": "ddp", "devices": RANKS}, data={"batch_size": 16}, checkpoint={"every_steps": 1}
    )


def study(folder: Path) -> None:
    """A float row, a binary one, and one that starts from the float one, in the process of the study."""
    module.results._draw = lambda *_: []  # pictures take longer than the rows
    module.run(_study(folder), InTurn, 1, None, Console(file=io.StringIO()))


def _study(folder: Path) -> Study:
    base = configuration(checkpoint={"every_steps": 1}, trainer={"max_epochs": 1})
    fine_tuned = {"after": {"pair": "fp", "start": "E2E"}, "checkpoint": "model.start.checkpoint"}
    axes = {
        "seed": [0], "pair": {"fp": {"model.binary": None}, "bnn++": {}}, "start": {"E2E": {}, "FT": fine_tuned},
    }  # fmt: skip
    blocks = [{"pair": "fp", "start": "E2E"}, {"pair": "bnn++"}]
    run = "proxconnect.training.row:run_row"
    folder.mkdir(exist_ok=True)
    path = write_grid(folder, run=run, base=base, axes=axes, blocks=blocks, compare={})
    return Study.read(path, {}, work=folder / "work")


def _rows(folder: Path) -> dict[str, Any]:
    """What the ledger says of each row and what its last checkpoint holds, but for times and memory."""
    its, left = _study(folder), {}
    entries = ledger.read(its.ledger)
    left["lines"] = len(its.ledger.read_text().splitlines())
    for entry in entries:
        kept = {name: value for name, value in entry.measured.items() if name not in OF_THE_MACHINE}
        checkpoint = torch.load(its.workplace.root / entry.key / CHECKPOINT, weights_only=True)
        left |= small_runs.flat({entry.key: kept | {"checkpoint": checkpoint}})
    return {name: value for name, value in left.items() if not name.endswith(OF_THE_MACHINE)}


def _in_one_process(work: Callable[[Path], None]) -> Callable[[Path], list[Any]]:
    return lambda folder: [small_runs.started(work, folder)]


RESUMABLE = {
    "plain loop": Resumable(
        _in_one_process(plain_loop),
        lambda folder: small_runs.flat(torch.load(folder / LAST, weights_only=True)),
    ),
    "Lightning": Resumable(_in_one_process(lightning_run), small_runs.outcome),
    "study": Resumable(_in_one_process(study), _rows),
    "DDP": Resumable(lambda folder: start_ranks(two_ranks, folder), small_runs.outcome),
}
