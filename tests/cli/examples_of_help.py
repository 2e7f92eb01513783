"""The commands that a help, or a page of the docs, gives as examples."""

import shlex

from proxconnect.cli.parser import EXAMPLES


def examples(text: str) -> list[list[str]]:
    """The arguments of each example of a help."""
    section = text.partition(f"\n{EXAMPLES}\n")[2].partition("\n\n")[0]
    return commands(section)


def commands(text: str) -> list[list[str]]:
    """The arguments of each line that calls proxconnect, up to a redirection or a comment."""
    lines = [line.strip() for line in text.replace("\\\n", " ").splitlines()]
    called = [shlex.split(line.partition(" > ")[0], comments=True) for line in lines if line.startswith("proxconnect ")]
    return [words[1:] for words in called]
