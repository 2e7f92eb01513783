"""Text that fits a terminal."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import RenderableType


def shortened(name: str, width: int) -> str:
    """Return `name`, with "…" in place of its middle if it has more than `width` characters."""
    if len(name) <= width:
        return name
    tail = (width - 1) * 2 // 3
    return f"{name[: width - 1 - tail]}…{name[-tail:]}"


def plain(renderable: "RenderableType", width: int = 80) -> str:
    """Return the text of a rich `renderable`, at most `width` columns wide, without colour or trailing blanks."""
    from io import StringIO

    from rich.console import Console

    buffer = StringIO()
    text = Console(
        file=buffer, width=width, color_system=None, force_terminal=False, force_jupyter=False, legacy_windows=False
    )
    text.print(renderable)
    return "\n".join(line.rstrip() for line in buffer.getvalue().rstrip().split("\n"))


def file_size(packed: int, floats: int) -> str:
    """Return text that compares the bytes of a packed file with those of all tensors of the float network."""
    return f"{packed:,} bytes, {floats / packed:.1f} times smaller than the {floats:,} bytes of all float tensors"


def with_article(noun: str) -> str:
    """Return an English noun, such as the name of a class, after "a" or "an"."""
    return f"an {noun}" if noun[:1].lower() in "aeio" else f"a {noun}"


def some(names: list[str]) -> str:
    """Return text that lists up to three qualified names and counts the others, as "a, b, c and 2 more"."""
    shown = ", ".join(name or "the model itself" for name in names[:3])
    return f"{shown} and {len(names) - 3} more" if len(names) > 3 else shown
