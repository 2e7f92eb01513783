"""The end of each help: notes, examples and exit codes, line by line as they are written."""

from collections.abc import Mapping

from proxconnect.cli.exits import Exit

EXAMPLES = "examples:"


def epilog(examples: str, exits: Mapping[Exit, str], about: str = "") -> str:
    """Format the end of the help of a verb, which may give exit codes its own meanings."""
    codes = "\n".join(f"{code.value:<3}  {meaning}" for code, meaning in exits.items())
    parts = [about.strip("\n"), f"{EXAMPLES}\n{_indented(examples)}", f"exit codes:\n{_indented(codes)}"]
    return "\n\n".join(part for part in parts if part)


def _indented(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.strip("\n").splitlines())
