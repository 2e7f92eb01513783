"""The demo: float and binary networks by several pairs on real data, a table, pictures, and a file that is proved.

Every run has the same hyperparameters (`experiment.RECIPES`), whatever its pair; none is tuned for one.
"""

import dataclasses
import time
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from proxconnect._support import extras
from proxconnect._support.processes import available_cores
from proxconnect._support.termination import INTERRUPTED, TERMINATED, TerminatedError
from proxconnect.cli.demo import report, shipping, workers
from proxconnect.cli.demo.experiment import RECIPES, Mode, Outcome, Recipe, Run, Start, restore
from proxconnect.inspection import plots
from proxconnect.layers import Accumulator, BinaryLayer
from proxconnect.training import data

if TYPE_CHECKING:
    from rich.console import Console

PAIRS = ("bc", "pc", "bnn", "bnn+", "bnn++")
"""The pairs that the demo compares."""

SEEDS = {"digits": 3, "fashion-mnist": 1}
"""How many seeds each data set is trained with."""

MOST_WORKERS = 8

EIGHT_BITS = Accumulator(bits=8, overflow="wrap")


@dataclass(frozen=True)
class Options:
    """What to run. None takes what is usual for the data set: its recipe's epochs, `SEEDS`, a worker for each core."""

    data: str = "digits"
    root: Path | None = None
    pairs: tuple[str, ...] = PAIRS
    modes: tuple[Mode, ...] = ("BW", "BWA", "BWAA")
    starts: tuple[Start, ...] = ("E2E", "FT")
    accumulator: Accumulator = EIGHT_BITS
    seeds: int | None = None
    epochs: int | None = None
    workers: int | None = None
    out: Path = Path("runs/demo")

    def recipe(self) -> Recipe:
        """The hyperparameters."""
        usual = RECIPES[self.data]
        return usual if self.epochs is None else dataclasses.replace(usual, epochs=self.epochs)

    def runs(self) -> list[Run]:
        """All runs, those of a seed together, the float one first."""
        binary_pairs = [pair for pair in self.pairs if pair != "fp"]
        runs = []
        for seed in range(SEEDS[self.data] if self.seeds is None else self.seeds):
            runs.append(Run("fp", "float", "E2E", seed))
            for mode in self.modes:
                sums = self.accumulator if mode == "BWAA" else None
                runs += [Run(p, mode, start, seed, sums) for p in binary_pairs for start in self.starts]
        return runs

    def plain(self) -> dict[str, Any]:
        """The arguments and the hyperparameters as plain data."""
        arguments = {k: str(v) if isinstance(v, Path) else v for k, v in dataclasses.asdict(self).items()}
        return arguments | {"recipe": dataclasses.asdict(self.recipe())}


@dataclass
class _Session:
    """The state of one demo."""

    options: Options
    dataset: data.Dataset
    console: "Console"
    outcomes: list[Outcome] = field(default_factory=list)
    shipment: shipping.Shipment | None = None
    written: list[str] = field(default_factory=list)
    began: float = field(default_factory=time.perf_counter)

    def path(self, name: str) -> Path:
        """Where a file of that name goes; it counts as written from now on."""
        if name not in self.written:
            self.written.append(name)
        return self.options.out / name

    def write(self, complete: bool) -> None:
        """Write results.json, its runs in the order of the options, whatever the order in which they ended."""
        order = {run: i for i, run in enumerate(self.options.runs())}
        self.outcomes.sort(key=lambda outcome: order[outcome.run])
        content = report.results(
            self.outcomes, arguments=self.options.plain(), complete=complete,
            seconds=time.perf_counter() - self.began, shipment=self.shipment,
        )  # fmt: skip
        report.write_json(content, self.path("results.json"))


def demo(options: Options, console: "Console", dataset: data.Dataset | None = None) -> int:
    """Run the demo and return its exit code: 0, 1 where the file answers otherwise than the network, 130 after Ctrl-C,
    143 after SIGTERM.

    `results.json` is written after every run, so that it holds what is done whatever happens. `dataset` stands for the
    one that `options.data` names; training is then in this process.
    """
    extras.require("matplotlib", "demo")
    parallel = dataset is None
    dataset = data.load(options.data, options.root) if dataset is None else dataset
    if options.out.exists() and not options.out.is_dir():
        raise NotADirectoryError(f"{options.out} is a file: give a folder with --out")
    options.out.mkdir(parents=True, exist_ok=True)
    session = _Session(options, dataset, console)
    try:
        _train(session, parallel)
        _print_table(session)
        _draw(session)
        code = _ship(session)
    except KeyboardInterrupt:
        return _stopped(session, INTERRUPTED)
    except TerminatedError:
        return _stopped(session, TERMINATED)
    session.write(complete=True)
    took = time.perf_counter() - session.began
    console.print(f"Wrote {', '.join(session.written)} in {options.out} ({took:.0f} s)")
    return code


def _train(session: _Session, parallel: bool) -> None:
    """Make every run, with a progress bar; the outcomes and results.json grow one by one."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    runs, recipe = session.options.runs(), session.options.recipe()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("epochs"))
    with Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=session.console) as progress:
        task = progress.add_task(f"{len(runs)} runs", total=len(runs) * recipe.epochs)
        with closing(_outcomes(session, runs, recipe, parallel, lambda: progress.advance(task))) as outcomes:
            for outcome in outcomes:
                session.outcomes.append(outcome)
                session.write(complete=False)
                progress.update(task, description=f"run {len(session.outcomes)} of {len(runs)}")


def _outcomes(
    session: _Session, runs: Sequence[Run], recipe: Recipe, parallel: bool, on_epoch: workers.OnEpoch
) -> Generator[Outcome]:
    options = session.options
    usual = min(available_cores(), MOST_WORKERS)
    count = min(usual if options.workers is None else options.workers, len(runs))
    if not parallel or count == 1:
        return workers.in_turn(runs, recipe, session.dataset, on_epoch)
    return workers.in_parallel(runs, recipe, options.data, options.root, count, on_epoch)


def _print_table(session: _Session) -> None:
    session.console.print(report.float_line(session.outcomes), highlight=False)
    session.console.print(report.table(session.outcomes, [p for p in session.options.pairs if p != "fp"]))


def _draw(session: _Session) -> None:
    """The pictures: curves of the first mode and start asked for, the catalogue, the latents of the best network."""
    mode, start = session.options.modes[0], session.options.starts[0]
    by_pair: dict[str, list[Outcome]] = {}
    for outcome in session.outcomes:
        if outcome.run.is_float or (outcome.run.mode, outcome.run.start) == (mode, start):
            by_pair.setdefault(outcome.run.pair, []).append(outcome)
    losses = {pair: [[e.loss for e in o.epochs] for o in group] for pair, group in by_pair.items()}
    accuracies = {pair: [[e.accuracy for e in o.epochs] for o in group] for pair, group in by_pair.items()}
    plots.save(plots.plot_curves(losses, accuracies, f"{mode} {start}"), session.path("curves.png"))
    plots.save(plots.plot_catalogue(), session.path("pairs.png"))
    best = _best(session.outcomes)
    if best is not None:
        binary = [(n, m) for n, m in restore(best, session.options.data).named_modules() if isinstance(m, BinaryLayer)]
        shown = dict(binary[:: max(1, len(binary) // 3)][:4])
        layers = {name: (layer.latent, layer.binary_weight) for name, layer in shown.items()}
        plots.save(
            plots.plot_latents(layers, f"{best.run}: latents and their hard weights"), session.path("weights.png")
        )


def _best(outcomes: Sequence[Outcome]) -> Outcome | None:
    """The binary run of the highest accuracy, the first of several."""
    return max((o for o in outcomes if not o.run.is_float), key=lambda o: o.accuracy_after, default=None)


def _ship(session: _Session) -> int:
    """Pack, save and prove the best run; 1 where the file gives other answers than the network."""
    best = _best(session.outcomes)
    if best is None:
        return 0
    path = session.path("best.safetensors")
    with session.console.status("packing the best network and loading it in a fresh process"):
        session.shipment = shipping.ship(best, session.dataset, session.options.root, path)
    say = session.console.print
    say(f"Best: {best.run}, {100 * best.accuracy_after:.2f} % (chosen on the test set)", highlight=False)
    for line in report.shipment_lines(session.shipment, path.name):
        say(line, highlight=False)
    return 0 if session.shipment.is_same else 1


def _stopped(session: _Session, status: int) -> int:
    """After Ctrl-C or SIGTERM: show and keep what is done."""
    done, total, say = len(session.outcomes), len(session.options.runs()), session.console.print
    if not session.outcomes:
        say(f"Interrupted: 0 of {total} runs are done, and nothing was written.")
        return status
    session.write(complete=False)
    if done < total:  # else it was printed already
        _print_table(session)
    say(f"Interrupted: {done} of {total} runs are done; {session.path('results.json')} holds them, complete: false.")
    return status
