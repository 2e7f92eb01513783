"""A fault: a small change of one file, and the tests that must fail because of it."""

from dataclasses import dataclass
from pathlib import Path

Edit = tuple[str, str, str]
"""A file, a text that occurs in it exactly once, and the faulty text that replaces it."""


@dataclass(frozen=True)
class Fault:
    """One fault. `edits` are alternatives for different commits: the first one that fits is applied."""

    name: str
    what: str
    """What goes wrong, for the table in the docs."""
    tests: tuple[str, ...]
    """Test files, the one that most likely fails first. Files that a commit lacks are left out."""
    edits: tuple[Edit, ...]

    @property
    def is_in_kernels(self) -> bool:
        """True if the kernels must be built again."""
        return self.edits[0][0].startswith("csrc/")

    def edit_in(self, tree: Path) -> Edit:
        """Return the edit that fits the sources in `tree`; ValueError if none does."""
        for file, old, new in self.edits:
            path = tree / file
            if path.exists() and path.read_text().count(old) == 1:
                return file, old, new
        tried = " and no ".join(f"{old!r} exactly once in {file}" for file, old, _ in self.edits)
        raise ValueError(
            f"fault {self.name!r} must be updated: there is no {tried}. Add an edit that plants the same fault to "
            "tests/planted"
        )

    def plant(self, tree: Path) -> None:
        """Change the sources in `tree`."""
        file, old, new = self.edit_in(tree)
        path = tree / file
        path.write_text(path.read_text().replace(old, new))


def fault(name: str, what: str, tests: str, *edits: Edit) -> Fault:
    """Make a fault; `tests` are paths below tests/, separated by spaces."""
    return Fault(name, what, tuple(f"tests/{path}" for path in tests.split()), edits)
