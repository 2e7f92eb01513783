"""`proxconnect discover`: search for pairs and their paths of μ, over spaces that a file describes."""

import argparse
from pathlib import Path

from rich.console import Console

from proxconnect._support import extras
from proxconnect._support.user_code import importable_folder
from proxconnect.cli.answer import JSON_HELP, Answer, print_answer
from proxconnect.cli.parser import Exit, Parser, epilog
from proxconnect.cli.verbs.study import add_where, workers_of

_EXAMPLES = """
proxconnect discover studies/discover/digits/search.yaml
proxconnect discover studies/discover/digits/search.yaml --workers 4 --json
"""
_EXITS = {
    Exit.DONE: "done: the winners are printed",
    Exit.NO: "a row failed; its folder says why",
    Exit.INTERRUPTED: "Ctrl-C: the ledger holds what is done",
    Exit.TERMINATED: "SIGTERM: as Ctrl-C, and rows that run keep what they did",
}


def add_to(commands: "argparse._SubParsersAction[Parser]") -> None:
    """Add `discover` to the subcommands of the parser."""
    command = commands.add_parser(
        "discover",
        help="search for pairs and their paths of μ",
        description="Search spaces of forward-backward pairs for the best of each, by rounds of\n"
        "training: many candidates for a short time, the best of them for longer. Each\n"
        "finished row is a line of ledger.jsonl. The same command goes on after a stop.",
        epilog=epilog(_EXAMPLES, _EXITS, "docs/discover.md says what a search file holds."),
    )
    command.add_argument("search", type=Path, metavar="SEARCH.yaml", help="the search file")
    command.add_argument("--json", action="store_true", help=JSON_HELP)
    add_where(command, "default: the folder of the search file")
    command.set_defaults(run=lambda parsed: print_answer(parsed, _discover))


@importable_folder()
def _discover(parsed: argparse.Namespace) -> Answer:
    for package in ("yaml", "pandas"):
        extras.require(package, "train")
    from proxconnect.training.discovery import report
    from proxconnect.training.discovery.discover import Discovery, RowError
    from proxconnect.training.discovery.search import Search
    from proxconnect.training.study.rows import Workplace

    console = Console(stderr=parsed.json)
    search = Search.read(parsed.search)
    folder = parsed.folder or parsed.search.parent
    work = parsed.work or Path("runs/studies") / folder.resolve().name
    discovery = Discovery(search, folder, Workplace(work), console)
    try:
        discovery.run(workers_of(parsed), parsed.threads)
    except RowError as error:
        console.print(f"failed: {error}", markup=False, highlight=False, soft_wrap=True)
        return Answer({"winners": [], "files": [], "failed": str(error)}, (), Exit.NO)
    files = report.write(discovery, console)
    winners = [report.record(standing) for standing in discovery.winners()]
    return Answer({"winners": winners, "files": files, "failed": None}, ())
