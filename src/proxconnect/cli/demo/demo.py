"""The demo: a small study of float and binary networks in a temporary folder, with a table, pictures and a proof."""

import json
import platform
import statistics
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any

import torch
from rich.console import Console, Group

from proxconnect._support import extras
from proxconnect._support.atomic import replacing
from proxconnect._support.paths import require_writable
from proxconnect._support.processes import available_cores
from proxconnect._support.termination import INTERRUPTED, TERMINATED, TerminatedError
from proxconnect.cli.answer import RunError, plain, table
from proxconnect.cli.binarization import ACTIVATIONS
from proxconnect.cli.demo.experiment import Mode, Run, Start, recipe_of, restore
from proxconnect.cli.demo.shipment import Shipment, ship
from proxconnect.inspection import plots
from proxconnect.layers import Accumulator, BinaryLayer
from proxconnect.training import data
from proxconnect.training.study.display import Display
from proxconnect.training.study.ledger import Entry, Ledger
from proxconnect.training.study.rows import CHECKPOINT, StudyRow, Workplace
from proxconnect.training.study.running import Processes, run_all
from proxconnect.version import __version__

FILES = ("results.json", "curves.png", "pairs.png", "weights.png", "best.safetensors")
"""The files that the demo writes."""
SEEDS = {"digits": 3, "fashion-mnist": 1}


@dataclass(frozen=True)
class Options:
    """The options of the demo: the runs to train, and how and where.

    `data` is a key of `SEEDS`, and `root` the folder with the files of Fashion-MNIST. `seeds` and `workers` are
    numbers. None stands for a default: the usual folder, the number in `SEEDS`, the epochs of `RECIPES`, one worker per
    core but at most 8. "fp" in `pairs` trains nothing more, since float networks are always trained. The results are
    written into the folder `out`.
    """

    data: str = "digits"
    root: Path | None = None
    pairs: tuple[str, ...] = ("bc", "pc", "bnn", "bnn+", "bnn++")
    modes: tuple[Mode, ...] = ("BW", "BWA", "BWAA")
    starts: tuple[Start, ...] = ("E2E", "FT")
    accumulator: Accumulator = field(default_factory=lambda: Accumulator(bits=8, overflow="wrap"))
    seeds: int | None = None
    epochs: int | None = None
    workers: int | None = None
    out: Path = Path("runs/demo")

    @cached_property
    def runs(self) -> dict[Run, StudyRow]:
        """All runs with their rows in a study, seed by seed; in each seed the float run comes first."""
        rows: dict[Run, StudyRow] = {}
        for seed in range(self.seeds or SEEDS[self.data]):
            fp = Run("fp", "float", "E2E", seed)
            rows[fp] = self._row(fp, None)
            for mode, pair, start in product(self.modes, self.pairs, self.starts):
                if pair != "fp":
                    run = Run(pair, mode, start, seed, self.accumulator if mode == "BWAA" else None)
                    rows[run] = self._row(run, rows[fp] if start == "FT" else None)
        return rows

    def _row(self, run: Run, after: StudyRow | None) -> StudyRow:
        recipe = recipe_of(self.data, self.epochs)
        configuration = plain({"data": self.data, "root": self.root, "run": run, "recipe": recipe})
        return StudyRow({"run": str(run)}, configuration, "proxconnect.cli.demo.experiment:run_row", after, "start")


@dataclass
class _Session:
    """The state of one demo."""

    options: Options
    dataset: data.Dataset
    console: Console
    workplace: Workplace
    ledger: Ledger
    shipment: Shipment | None = None
    written: dict[str, Path] = field(default_factory=dict)
    began: float = field(default_factory=time.perf_counter)

    @property
    def done(self) -> dict[Run, Entry]:
        """The finished runs with their entries in the ledger, in the order of `Options.runs`."""
        entries = self.ledger.entries
        return {run: entries[row.key] for run, row in self.options.runs.items() if row.key in entries}

    def best(self) -> Run | None:
        """Return the first finished binary run with the highest "reestimated" accuracy; None if none is finished."""
        done = {run: entry.figure("accuracy.reestimated") or 0.0 for run, entry in self.done.items()}
        return max((run for run in done if not run.is_float), key=done.__getitem__, default=None)

    def trained(self, run: Run) -> torch.nn.Module:
        """Return the trained network of a finished run, loaded from its checkpoint, in `eval()`."""
        return restore(run, self.options.data, self.workplace.folder(self.options.runs[run]) / CHECKPOINT)

    def path(self, name: str) -> Path:
        """Return the path of the file `name` in the folder `out`, and record it in `written`."""
        return self.written.setdefault(name, self.options.out / name)

    def write(self, complete: bool) -> None:
        """Write results.json, with the options, the finished runs and the comparison of the packed file.

        Accuracies are in [0, 1], losses in nats (null if not finite), times in seconds, sizes in bytes. `complete` goes
        into the file: whether the demo has done all its work.
        """
        versions = {"proxconnect": __version__, "torch": torch.__version__, "python": platform.python_version()}
        options, runs = self.options, []
        for run, entry in self.done.items():
            accuracy, seconds, curve = (entry.measured[name] for name in ("accuracy", "seconds", "curve"))
            measured = {"accuracy": accuracy["reestimated"], "accuracy_before_reestimation": accuracy["hard"]}
            runs.append(vars(run) | measured | {"seconds": seconds, "epochs": curve})
        content = {
            "complete": complete,
            "seconds": time.perf_counter() - self.began,
            "arguments": asdict(options) | {"recipe": recipe_of(options.data, options.epochs)},
            "activations": ACTIVATIONS,
            "versions": versions,
            "runs": runs,
            "best": self.shipment and vars(self.shipment) | {"same": self.shipment.is_same},
        }
        write_json(content, self.path("results.json"))


def write_json(content: Mapping[str, Any], path: Path) -> None:
    """Write `content` as JSON to the file `path`, whole or not at all; NaN and infinity become null."""
    text = json.dumps(plain(content), indent=2, ensure_ascii=False, allow_nan=False)
    with replacing(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


class _Progress(Display):
    """Bars on a terminal, and results.json after each run. A run that fails ends the demo."""

    def __init__(self, session: _Session) -> None:
        super().__init__(session.console, len(session.options.runs))
        self._session = session

    def finish_row(self, row: StudyRow, entry: Entry) -> None:
        self.end_row(row)
        self._session.write(complete=False)

    def fail_row(self, row: StudyRow, error: str) -> None:
        raise RunError(f"{row} failed in a worker process:\n{error.strip()}")


def demo(options: Options, console: Console) -> int:
    """Train all runs, print a table, draw pictures, and pack the best network; write results into `options.out`.

    `results.json` is written after every run. Return the exit code: 0; 1 if the packed file gives other answers than
    the network; 130 after Ctrl-C, 143 after SIGTERM. RunError if a run fails, or the process that loads the packed
    file; DatasetError if the files of the data are absent or wrong; OSError if `options.out` cannot be written.
    """
    extras.require("matplotlib", "demo")
    dataset = data.load(options.data, options.root)
    require_writable(options.out, "--out", FILES)
    with tempfile.TemporaryDirectory() as folder, Ledger.writing(Path(folder) / "ledger.jsonl") as book:
        session = _Session(options, dataset, console, Workplace(Path(folder)), book)
        try:
            processes = Processes(options.workers or min(available_cores(), 8))
            with processes as workers, _Progress(session) as display:
                run_all(options.runs.values(), workers, book, session.workplace, 1, display)
            console.print(accuracy_table(session.done, options.pairs), highlight=False)
            _draw(session)
            code = _ship(session)
        except (KeyboardInterrupt, TerminatedError) as stop:
            return _stopped(session, TERMINATED if isinstance(stop, TerminatedError) else INTERRUPTED)
        session.write(complete=True)
    took = time.perf_counter() - session.began
    console.print(f"Wrote {', '.join(session.written)} in {options.out} ({took:.0f} s)")
    return code


def _draw(session: _Session) -> None:
    """Draw curves of the first mode and start asked for, the catalogue, and the latents of the best network."""
    mode, start = session.options.modes[0], session.options.starts[0]
    courses: dict[str, dict[str, list[list[float]]]] = {"loss": {}, "accuracy": {}}
    for run, entry in session.done.items():
        if run.is_float or (run.mode, run.start) == (mode, start):
            for name, by_pair in courses.items():
                course = [epoch[name] for epoch in entry.measured["curve"] if epoch[name] is not None]
                by_pair.setdefault(run.pair, []).append(course)
    plots.save(plots.plot_curves(courses["loss"], courses["accuracy"], f"{mode} {start}"), session.path("curves.png"))
    plots.save(plots.plot_catalogue(), session.path("pairs.png"))
    best = session.best()
    if best is not None:
        binary = [(n, m) for n, m in session.trained(best).named_modules() if isinstance(m, BinaryLayer)]
        shown = dict(binary[:: max(1, len(binary) // 3)][:4])
        layers = {name: (layer.latent, layer.binary_weight) for name, layer in shown.items()}
        plots.save(plots.plot_latents(layers, f"{best}: latents and their hard weights"), session.path("weights.png"))


def _ship(session: _Session) -> int:
    """Pack, save and prove the best run. Returns 1 if the file gives other answers than the network."""
    best = session.best()
    if best is None:
        return 0
    path, say = session.path("best.safetensors"), session.console.print
    with session.console.status("packing the best network and loading it in a fresh process"):
        session.shipment = ship(best, session.trained(best), session.dataset, session.options.root, path)
    accuracy = session.done[best].measured["accuracy"]["reestimated"]
    say(f"Best: {best}, {100 * accuracy:.2f} % (chosen on the test set)", highlight=False)
    for line in session.shipment.lines(path.name):
        say(line, highlight=False)
    return 0 if session.shipment.is_same else 1


def _stopped(session: _Session, status: int) -> int:
    """Show and keep what is done, after Ctrl-C or SIGTERM."""
    done, total, say = session.done, len(session.options.runs), session.console.print
    if not done:
        say(f"Interrupted: 0 of {total} runs are done, and nothing was written.")
        return status
    session.write(complete=False)
    if len(done) < total:  # else it was printed already
        say(accuracy_table(done, session.options.pairs), highlight=False)
    path = session.path("results.json")
    say(f"Interrupted: {len(done)} of {total} runs are done; {path} holds them, complete: false.")
    return status


def accuracy_table(done: Mapping[Run, Entry], pairs: Sequence[str]) -> Group:
    """Return a table of test accuracies in per cent, with a line on the float network above it and notes below it.

    It has a row for each of `pairs` but "fp", and a column for each mode and start of the runs that are `done`. A cell
    has the `spread` over the seeds, in the upper line after batch norm was re-estimated, in the lower line before.
    """
    seeds = len({run.seed for run in done})
    columns = sorted({(run.mode, run.start) for run in done if not run.is_float})
    # One image of a small test set is more than a second decimal, which six columns have no room for.
    decimals = 1 if len(columns) > 4 else 2
    result = table("pair", *(f"{mode} {start}" for mode, start in columns))
    title = f"Test accuracy of the hard network in %, {'1 seed' if seeds == 1 else f'mean ± sd of {seeds} seeds'}"
    result.show_edge = True
    for pair in pairs:
        if pair == "fp":
            continue
        cells = []
        for column in columns:
            chosen = [entry for run, entry in done.items() if (run.pair, (run.mode, run.start)) == (pair, column)]
            after, before = (spread(chosen, name, decimals) for name in ("reestimated", "hard"))
            cells.append(f"{after}\n{before}")
        result.add_row(pair, *cells)
    floats = spread([entry for run, entry in done.items() if run.is_float], "reestimated", 2)
    limits = {str(run.accumulator) for run in done if run.accumulator is not None}
    return Group(
        f"Float network (fp): {floats} %",
        title,
        result,
        "Upper line: batch norm re-estimated for the hard weights. Lower: before that.",
        "BW: binary weights. BWA: binary weights and activations.",
        *(f"BWAA: BWA, with integer sums kept by this accumulator: {limit}." for limit in sorted(limits)),
        "E2E: trained from scratch. FT: fine-tuned from the float network (fp).",
    )


def spread(entries: Iterable[Entry], name: str, decimals: int) -> str:
    """Return an accuracy in per cent as text: "mean±sd" over several runs, the value of one run, "-" without runs.

    `name` is "reestimated", the accuracy after batch norm was re-estimated, or "hard", the one before.
    """
    percent = [100 * (entry.figure(f"accuracy.{name}") or 0.0) for entry in entries]
    if not percent:
        return "-"
    mean = f"{statistics.mean(percent):.{decimals}f}"
    return mean if len(percent) == 1 else f"{mean}±{statistics.stdev(percent):.{decimals}f}"
