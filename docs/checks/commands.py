"""Are the commands on the pages real? Each is held against what would run it, and not run."""

import contextlib
import io
import re
import shlex
import tomllib
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

from checks.pages import Block
from proxconnect.cli.command import _parser as command_parser
from proxconnect.cli.verbs import train

FOLDERS = ("recipes/", "studies/", "benchmarks/", "examples/", "docs/", "tests/")
"""What begins so in a command is a file of the repository."""

OUTPUT = ("-o", "--output")
"""Options whose file need not exist."""


def said_by(parse: Callable[[], object]) -> str:
    """The complaint of a parser that does not take its arguments; empty where it does."""
    with contextlib.redirect_stderr(io.StringIO()) as said, contextlib.redirect_stdout(io.StringIO()):
        try:
            parse()
        except SystemExit as stop:
            return said.getvalue().strip() if stop.code else ""
    return ""


def wrong_proxconnect(words: list[str], root: Path) -> str:
    """What the command would say of its arguments."""
    if words and words[0] in train.VERBS:
        return wrong_training(words, root)
    with contextlib.chdir(root):  # arguments name files of the repository
        return said_by(lambda: command_parser().parse_args(words))


def wrong_training(words: list[str], root: Path) -> str:
    """The same of `fit`, `validate` and `test`, whose recipes are read, but for those that a run writes."""
    if any(word.startswith("runs/") for word in words):
        return ""
    from proxconnect.training.configuration import Configured, UsageError

    with contextlib.chdir(root):
        try:
            Configured([word for word in words[1:] if word != "--json"], {"prog": f"proxconnect {words[0]}"})
        except UsageError as error:
            return str(error)
    return ""


def wrong_make(words: list[str], root: Path) -> str:
    """Targets that the Makefile does not have."""
    targets = set(re.findall(r"^([\w-]+):", (root / "Makefile").read_text(), re.MULTILINE))
    return ", ".join(f"there is no target {word}" for word in words if "=" not in word and word not in targets)


def wrong_pip(words: list[str], root: Path) -> str:
    """Extras that the package does not have."""
    extras = tomllib.loads((root / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    named = {extra for word in words for group in re.findall(r"\[(.*)\]$", word) for extra in group.split(",")}
    return ", ".join(f"there is no extra {extra}" for extra in sorted(named - set(extras)))


CHECKED = {"proxconnect": wrong_proxconnect, "make": wrong_make, "pip": wrong_pip}
OTHERS = {"python", "git", "cd", "export", "apt-get", "source", "torchrun", "eval"}
"""Programs that are not ours; files of the repository that they name are looked for."""


def wrong_commands(block: Block, root: Path) -> list[str]:
    """The faults of the lines of a `sh` block, whose continued lines are joined."""
    found = []
    for line in re.sub(r"\\\n\s*", "", block.code).splitlines():
        words = shlex.split(line, comments=True)
        while words and re.fullmatch(r"\w+=\S*", words[0]):  # variables for one command
            words.pop(0)
        if not words:
            continue
        named = [word for before, word in pairwise(["", *words]) if before not in OUTPUT and word.startswith(FOLDERS)]
        missing = [word for word in named if not (root / word).exists()]
        if words[0] not in CHECKED and words[0] not in OTHERS:
            fault = f"{words[0]} is no command that is checked"
        elif missing:
            fault = f"there is no {missing[0]}"
        else:
            fault = CHECKED[words[0]](words[1:], root) if words[0] in CHECKED else ""
        if fault:
            found.append(f"{block.place}: {line.strip()}: {fault}")
    return found
