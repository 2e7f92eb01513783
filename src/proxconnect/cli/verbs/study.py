"""`proxconnect study`: a grid of training runs, its ledger, and the results."""

import argparse
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from proxconnect._support import extras
from proxconnect._support.processes import available_cores
from proxconnect._support.user_code import importable_folder
from proxconnect.cli.answer import JSON_HELP, Answer, print_answer
from proxconnect.cli.parser import Exit, Parser, epilog, output_file, positive

if TYPE_CHECKING:
    from proxconnect.training.study.study import OpenWorkers

_EXAMPLES = """
proxconnect study studies/fashion-mnist/core.yaml --list
proxconnect study studies/fashion-mnist/core.yaml --only pair=bc,bnn++
proxconnect study studies/fashion-mnist/core.yaml --limit 20 --workers 4
proxconnect study studies/fashion-mnist/core.yaml --on ray
proxconnect study studies/fashion-mnist/core.yaml --tables --json
proxconnect study studies/fashion-mnist/core.yaml --verify 3
proxconnect study studies/fashion-mnist/tuning/trials.yaml \\
    --choose model pair mode start rule -o best.yaml
"""
_EXITS = {
    Exit.DONE: "done; --verify: all rows agree",
    Exit.NO: "a row failed (the others ran), or does not agree",
    Exit.INTERRUPTED: "Ctrl-C: the ledger holds what is done",
    Exit.TERMINATED: "SIGTERM: as Ctrl-C, and rows that run keep what they did",
}


def add_to(commands: "argparse._SubParsersAction[Parser]") -> None:
    """Add `study` to the subcommands of the parser."""
    command = commands.add_parser(
        "study",
        help="run a grid of training runs, and make tables of its ledger",
        description="Run the rows of a grid in parallel processes. Each finished row is a line of\n"
        "ledger.jsonl, in the folder of the grid, and never runs again. A row that was\n"
        "stopped goes on from its checkpoint. In the end, tables and pictures are written\n"
        "beside the ledger.",
        epilog=epilog(_EXAMPLES, _EXITS, "docs/grids.md says what a grid file holds."),
    )
    add = command.add_argument
    add("grid", type=Path, metavar="GRID.yaml", help="the grid file")
    add("--json", action="store_true", help=JSON_HELP)
    group = command.add_argument_group("instead of running rows")
    instead = group.add_mutually_exclusive_group().add_argument
    instead("--list", action="store_true", help="print the rows and how far each is")
    instead("--tables", action="store_true", help="make tables and pictures of the ledger as it is")
    instead("--verify", type=positive, nargs="?", const=3, metavar="N", help="run N random finished rows again and "
            "compare; default: 3")  # fmt: skip
    instead("--choose", nargs="+", metavar="AXIS", help="write the best settings for each label of the axes")
    group.add_argument("--by", default="accuracy.reestimated", metavar="FIGURE", help="the number to choose by; "
                       "default: accuracy.reestimated")  # fmt: skip
    group.add_argument("-o", "--output", type=output_file, metavar="FILE", help="the file that --choose writes; "
                       "default: tuned.yaml beside the grid")  # fmt: skip
    add = command.add_argument_group("which rows").add_argument
    add("--only", nargs="+", action="extend", type=_selection, default=[], metavar="AXIS=LABEL", help="only rows with "
        "this label, or with one of several: pair=bnn+,bnn++")  # fmt: skip
    add("--limit", type=positive, metavar="N", help="run at most N rows now")
    add_where(command, "default: that of the grid")
    command.set_defaults(run=lambda parsed: print_answer(parsed, _study))


def add_where(command: Parser, usual_folder: str) -> None:
    """Add the options that say how and where rows run; `usual_folder` describes the default of --folder."""
    add = command.add_argument_group("how and where").add_argument
    add("--workers", type=positive, metavar="N", help="processes; default: one for each --threads cores")
    add("--threads", type=positive, default=1, metavar="N", help="threads of each row; default: 1")
    add("--on", type=_place, default=("processes", None), metavar="ray[:ADDRESS]", help="run rows on this cluster, "
        "which shares --work and has this version installed")  # fmt: skip
    add("--folder", type=Path, metavar="DIR", help=f"for ledger, tables and pictures; {usual_folder}")
    add("--work", type=Path, metavar="DIR", help="for checkpoints and logs; default: runs/studies/NAME")


def workers_of(parsed: argparse.Namespace) -> "OpenWorkers":
    """Return the call that opens the workers that the options of `add_where` ask for."""
    from proxconnect.training.study.running import Processes, RayCluster

    name, address = parsed.on
    if name == "ray":
        return partial(RayCluster, address, parsed.threads)
    return partial(Processes, parsed.workers or max(1, available_cores() // parsed.threads))


def _selection(text: str) -> tuple[str, tuple[str, ...]]:
    axis, _, labels = text.partition("=")
    if not axis or not labels:
        raise argparse.ArgumentTypeError(f"{text!r} is no AXIS=LABEL, as pair=bnn++ or seed=0,1")
    if "=" in labels:
        raise argparse.ArgumentTypeError(f"{text!r} names two axes: put a space between them, as pair=bnn++ seed=0,1")
    return axis, tuple(labels.split(","))


def _place(text: str) -> tuple[str, str | None]:
    name, _, address = text.partition(":")
    if name not in ("processes", "ray") or (address and name != "ray"):
        raise argparse.ArgumentTypeError(f"rows run on `processes`, `ray` or `ray:ADDRESS`, not {text!r}")
    return name, address or None


@importable_folder()
def _study(parsed: argparse.Namespace) -> Answer:
    for package in ("yaml", "pandas"):
        extras.require(package, "train")
    from proxconnect.training.study import results
    from proxconnect.training.study.choosing import choose
    from proxconnect.training.study.study import Study, list_rows, record, run, verify, write_results

    console = Console(stderr=parsed.json)
    only: dict[str, tuple[str, ...]] = {}
    for axis, labels in parsed.only:
        only[axis] = (*only.get(axis, ()), *labels)
    study = Study.read(parsed.grid, only, parsed.folder, parsed.work)
    if parsed.list:
        return Answer({"rows": list_rows(study, console)}, ())
    if parsed.tables:
        files = write_results(study, console)
        return Answer({"files": files, **results.figures(study.entries(), study.grid)}, ())
    if parsed.choose:
        path = parsed.output or study.grid.path.with_name("tuned.yaml")
        return Answer({"file": path, **choose(study, parsed.choose, parsed.by, path, console)}, ())
    workers = workers_of(parsed)
    if parsed.verify:
        found = verify(study, parsed.verify, workers, parsed.threads, console)
        rows = [record(row) | {"agrees": agrees, "reason": reason} for row, (agrees, reason) in found.items()]
        return Answer({"rows": rows}, (), Exit.DONE if all(row["agrees"] for row in rows) else Exit.NO)
    failures = run(study, workers, parsed.threads, parsed.limit, console)
    entries = study.entries()
    done = {entry.key for entry in entries}
    figures = {
        "rows": len(study.rows),
        "done": sum(row.key in done for row in study.rows),
        "failed": [record(row) | {"reason": why} for row, why in failures.items()],
        **results.figures(entries, study.grid),
    }
    return Answer(figures, (), Exit.NO if failures else Exit.DONE)
