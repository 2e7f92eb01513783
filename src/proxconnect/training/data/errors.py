"""What is said where the files of a data set are absent or wrong."""

from pathlib import Path

SHOWN = 8
"""So many names of a folder are shown."""


class DatasetError(ValueError):
    """The files of a data set are absent or not what they should be; the message says which and what to do."""


def wrong_folder(name: str, root: Path, problem: str, layout: str, advice: str) -> DatasetError:
    """The error of a `root` that does not hold `name`: what is wrong, the layout expected, what is there, what to do.

    `layout` is a tree whose trunk is `root`.
    """
    tree = "\n".join(f"  {line}" for line in (str(root), *layout.strip().splitlines()))
    return DatasetError(f"no {name} in {root}: {problem}\nexpected:\n{tree}\nfound: {found(root)}\n{advice}")


def found(root: Path) -> str:
    """What `root` holds, in a line."""
    if not root.exists():
        return "no such folder"
    if not root.is_dir():
        return "a file, not a folder"
    try:
        names = sorted(entry.name + "/" * entry.is_dir() for entry in root.iterdir())
    except OSError as error:
        return f"a folder that cannot be read ({error.strerror or error})"
    if not names:
        return "nothing, the folder is empty"
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
