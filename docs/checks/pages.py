"""The pages that are checked, and the fenced blocks in them."""

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
OUTSIDE = [
    "README.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "CHANGELOG.md",
    "recipes/README.md",
    "studies/bnn_plus_plus/README.md",
    "studies/cifar10/README.md",
    "studies/fashion-mnist/README.md",
    "studies/sst2/README.md",
    "studies/techniques/README.md",
]


def pages(root: Path = ROOT) -> list[Path]:
    """Every page of the site, and those beside it."""
    return [root / page for page in OUTSIDE if (root / page).exists()] + sorted((root / "docs").rglob("*.md"))


@dataclass(frozen=True)
class Block:
    """What stands between two fences, or in a comment that begins with `python`, which readers do not see."""

    page: Path
    line: int
    """Of its first line of code, from 1."""
    kind: str
    """The first word after the fence; empty where there is none."""
    needs: tuple[str, ...]
    """The other words: packages without which it does not run."""
    code: str
    hidden: bool

    @property
    def place(self) -> str:
        """Where it is."""
        return f"{self.page}:{self.line}"


FENCED = re.compile(
    r"^(?P<fence>`{3,}|~{3,})(?P<kind>[^\n`]*)\n(?P<code>.*?)^(?P=fence)[ \t]*$"
    r"|^<!-- python\n(?P<hidden>.*?)^-->[ \t]*$",
    re.DOTALL | re.MULTILINE,
)


def blocks(page: Path) -> list[Block]:
    """The blocks of a page, in their order."""
    text, found = page.read_text(), []
    for match in FENCED.finditer(text):
        group = "code" if match["hidden"] is None else "hidden"
        line = text.count("\n", 0, match.start(group)) + 1
        hidden = match["hidden"] is not None
        kind, *needs = ["python"] if hidden else match["kind"].split() or [""]
        found.append(Block(page, line, kind, tuple(needs), match[group], hidden))
    return found
