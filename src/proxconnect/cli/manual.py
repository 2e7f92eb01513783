"""The end of each help: what to know, examples, exit codes; as it is written, line by line."""

from collections.abc import Mapping

from proxconnect.cli.exits import Exit

EXAMPLES = "examples:"


def epilog(examples: str, exits: Mapping[Exit, str], about: str = "") -> str:
    """The end of the help of a verb; `exits` says what the codes mean there that it has of its own."""
    parts = [about.strip("\n"), f"{EXAMPLES}\n{_indented(examples)}", f"exit codes:\n{exit_lines(exits)}"]
    return "\n\n".join(part for part in parts if part)


def exit_lines(exits: Mapping[Exit, str]) -> str:
    """A line for each code."""
    return _indented("\n".join(f"{code.value:<3}  {meaning}" for code, meaning in exits.items()))


def _indented(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.strip("\n").splitlines())
