"""The rows of planted-faults.jsonl, one for each fault and commit, and the page that is made of them."""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from planted.fault import Fault
from planted.kernel_faults import EMULATED, KERNEL_FAULTS
from planted.python_faults import PYTHON_FAULTS

FOLDER = Path(__file__).parents[2] / "docs" / "development"
ROWS, PAGE = FOLDER / "planted-faults.jsonl", FOLDER / "planted-faults.md"
FAULTS = (*KERNEL_FAULTS, *PYTHON_FAULTS, *EMULATED)
SECTIONS = {
    "In the kernels": KERNEL_FAULTS,
    "In Python": PYTHON_FAULTS,
    "In kernels for other processors, which are emulated": EMULATED,
}

HEAD = """\
# Planted faults

Do the tests notice when the code is wrong? Each of these {count} faults is a small change that a careless edit could
make. `make test-planted` puts one at a time into a copy of a commit, builds the kernels if the fault is in `csrc/`, and
runs the test files that should fail. A fault is caught if a test fails that passes without the fault.

| | {commits} |
|---|{rules}
{caught}| minutes | {minutes} |

The tables below name the first test that fails, and how many seconds the build and the tests took until then.
`planted-faults.jsonl` beside this page has every row. If a fault survives, no test in its list covers that code.
"""


@dataclass(frozen=True)
class Row:
    """What became of one fault in one commit."""

    fault: str
    digest: str
    """Of the fault, so that a changed one is tried again."""
    commit: str
    outcome: str
    """"caught", "SURVIVED", "TIMED OUT", "DID NOT BUILD" or "MUST BE UPDATED"."""
    test: str
    """The test that failed first, or the last that began."""
    seconds: float


def digest(fault: Fault) -> str:
    """A name for what a fault is; it stays if edits for later commits are added."""
    return hashlib.sha256(repr((fault.name, fault.edits[0])).encode()).hexdigest()[:12]


def rows() -> list[Row]:
    """Every row, in the order in which they were written."""
    return [Row(**json.loads(line)) for line in ROWS.read_text().splitlines()] if ROWS.exists() else []


def add(row: Row) -> None:
    """Append a row."""
    with ROWS.open("a") as file:
        file.write(json.dumps(asdict(row), ensure_ascii=False) + "\n")


def newest(commit: str) -> dict[str, Row]:
    """The last row of each present fault in a commit, by the fault's name."""
    known = {fault.name: digest(fault) for fault in FAULTS}
    return {row.fault: row for row in rows() if row.commit == commit and known.get(row.fault) == row.digest}


def write_page() -> None:
    """Write the page: the first and the last commit of the ledger side by side, by the names of faults."""
    commits = list(dict.fromkeys(row.commit for row in rows()))
    commits = commits if len(commits) < 2 else [commits[0], commits[-1]]
    found = [{row.fault: row for row in rows() if row.commit == commit} for commit in commits]
    minutes = [sum(row.seconds for row in of.values()) / 60 for of in found]
    page = HEAD.format(
        count=len(FAULTS), commits=" | ".join(f"`{commit}`" for commit in commits), rules="---:|" * len(commits),
        caught="".join(_caught(title, faults, found) for title, faults in SECTIONS.items()),
        minutes=" | ".join(f"{m:.0f}" for m in minutes),
    )  # fmt: skip
    for title, faults in SECTIONS.items():
        page += f"\n## {title}\n\n| fault | file | {' | '.join(f'caught in `{c}` by | s' for c in commits)} |\n"
        page += f"|---|---|{'---|---:|' * len(commits)}\n"
        page += "".join(_line(fault, [of.get(fault.name) for of in found]) for fault in faults)
    PAGE.write_text(page)


def _caught(title: str, faults: tuple[Fault, ...], found: list[dict[str, Row]]) -> str:
    """How many faults of a section are caught in each commit, as a line of the first table."""
    names = [fault.name for fault in faults]
    counts = [sum(name in of and of[name].outcome == "caught" for name in names) for of in found]
    cells = [f"{title}, {len(names)} faults: caught", *map(str, counts)]
    return f"| {' | '.join(cells)} |\n"


def _line(fault: Fault, found: list[Row | None]) -> str:
    cells = [fault.what, f"`{fault.edits[0][0].removeprefix('src/proxconnect/')}`"]
    for row in found:
        cells += [_shown(row), "" if row is None else f"{row.seconds:.0f}"]
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |\n"


def _shown(row: Row | None) -> str:
    """The file and the function of a test; its parameters are in the ledger."""
    if row is None:
        return "not tried"
    return f"`{row.test.removeprefix('tests/').split('[')[0]}`" if row.outcome == "caught" else f"**{row.outcome}**"
