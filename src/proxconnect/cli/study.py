"""`proxconnect study`: a grid of training runs, its ledger, and what is made of it."""

import argparse
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

from proxconnect import extras
from proxconnect.cli.parser import USAGE_ERROR, Parser, complain, positive
from proxconnect.extras import MissingExtraError
from proxconnect.loading import importable_folder
from proxconnect.processes import available_cores

if TYPE_CHECKING:
    from proxconnect.study.crew import Crew
    from proxconnect.study.study import Study


def add_to(commands: "argparse._SubParsersAction[Parser]") -> None:
    """Add the command to those of the parser."""
    command = commands.add_parser(
        "study",
        help="run a grid of training runs, and make tables of its ledger",
        description="Run the rows of a grid in parallel processes. Each finished row is a line of\n"
        "ledger.jsonl, in the folder of the grid; one that is there never runs again, and\n"
        "one that was stopped, by whatever, goes on from its checkpoint. Tables and\n"
        "pictures are written beside the ledger in the end.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="""docs/grids.md says what a grid file holds.

examples:
  proxconnect study studies/small/grid.yaml --list
  proxconnect study studies/small/grid.yaml --only pair=bnn+,bnn++ mode=BW
  proxconnect study studies/small/grid.yaml --limit 20 --workers 4
  proxconnect study studies/small/grid.yaml --on ray
  proxconnect study studies/small/grid.yaml --tables
  proxconnect study studies/small/grid.yaml --verify 3
  proxconnect study studies/small/tuning.yaml --choose pair -o tuned.yaml

exit status:
  0  done; --verify: all rows agree
  1  a row failed (the others ran), or does not agree
  2  bad input (one line on stderr)
  130  Ctrl-C: the ledger holds what is done
  143  SIGTERM: as Ctrl-C, and rows that run keep what they did""",
    )
    add = command.add_argument
    add("grid", type=Path, metavar="GRID.yaml", help="the grid file")
    instead = command.add_mutually_exclusive_group().add_argument
    instead("--list", action="store_true", help="print the rows and how far each is")
    instead("--tables", action="store_true", help="make tables and pictures of the ledger as it is")
    instead("--verify", type=positive, nargs="?", const=3, metavar="N", help="run N random finished rows again and\n"
            "compare; default: 3")  # fmt: skip
    instead("--choose", nargs="+", metavar="AXIS", help="write the best settings for each label of the axes")
    add("--by", default="accuracy.reestimated", metavar="FIGURE", help="of --choose; default: accuracy.reestimated")
    add("-o", "--output", type=Path, metavar="FILE", help="of --choose; default: tuned.yaml beside the grid")
    add("--only", nargs="+", type=_selection, default=[], metavar="AXIS=LABEL", help="only rows with this label, or\n"
        "with one of several: pair=bnn+,bnn++")  # fmt: skip
    add("--limit", type=positive, metavar="N", help="run at most N rows now")
    add("--workers", type=positive, metavar="N", help="processes; default: one for each --threads cores")
    add("--threads", type=positive, default=1, metavar="N", help="of each row; default: 1")
    add("--on", type=_place, default=("processes", None), metavar="ray[:ADDRESS]", help="run rows on this cluster,\n"
        "which shares --work and has this version installed")  # fmt: skip
    add("--folder", type=Path, metavar="DIR", help="of ledger, tables and pictures; default: that of the grid")
    add("--work", type=Path, metavar="DIR", help="of checkpoints and logs; default: runs/studies/NAME")
    command.set_defaults(run=_run)


def _selection(text: str) -> tuple[str, tuple[str, ...]]:
    axis, _, labels = text.partition("=")
    if not axis or not labels:
        raise argparse.ArgumentTypeError(f"{text!r} is no AXIS=LABEL, as pair=bnn++ or seed=0,1")
    return axis, tuple(labels.split(","))


def _place(text: str) -> tuple[str, str | None]:
    name, _, address = text.partition(":")
    if name not in ("processes", "ray") or (address and name != "ray"):
        raise argparse.ArgumentTypeError(f"rows run on `processes`, `ray` or `ray:ADDRESS`, not {text!r}")
    return name, address or None


def _run(parsed: argparse.Namespace) -> int:
    try:
        extras.require("yaml", "train")
    except MissingExtraError as error:
        return complain(error, USAGE_ERROR)
    from proxconnect.study.ledger import LedgerError
    from proxconnect.study.names import GridError
    from proxconnect.study.study import Study

    try:
        with importable_folder():
            study = Study.read(parsed.grid, dict(parsed.only), parsed.folder, parsed.work)
            return _do(study, parsed)
    except (GridError, LedgerError, MissingExtraError, OSError) as error:
        return complain(error, USAGE_ERROR)


def _do(study: "Study", parsed: argparse.Namespace) -> int:
    """What the arguments ask for."""
    from rich.console import Console

    from proxconnect.study.choosing import choose
    from proxconnect.study.listing import list_rows
    from proxconnect.study.study import run, write_report
    from proxconnect.study.verification import verify

    console = Console()
    if parsed.list:
        list_rows(study, console)
    elif parsed.tables:
        write_report(study, console)
    elif parsed.choose:
        path = parsed.output or study.grid.path.with_name("tuned.yaml")
        choose(study, parsed.choose, parsed.by, path, console)
    elif parsed.verify:
        return verify(study, parsed.verify, _crew(parsed), parsed.threads, console)
    else:
        return run(study, _crew(parsed), parsed.threads, parsed.limit, console)
    return 0


def _crew(parsed: argparse.Namespace) -> "Callable[[], AbstractContextManager[Crew]]":
    from proxconnect.study.local import Processes
    from proxconnect.study.on_ray import RayCluster

    name, address = parsed.on
    if name == "ray":
        return lambda: RayCluster(address, parsed.threads)
    return lambda: Processes(parsed.workers or max(1, available_cores() // parsed.threads))
