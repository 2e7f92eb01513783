"""Errors of data sets whose files are absent or wrong."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class DatasetError(ValueError):
    """Files of a data set are absent or wrong; the message says which, and what to do."""


def wrong_folder(name: str, root: Path, problem: str, layout: str, advice: str) -> DatasetError:
    """Return the error of a `root` that does not hold the data set `name`; `layout` is the expected tree below it."""
    tree = "\n".join(f"  {line}" for line in (str(root), *layout.strip().splitlines()))
    if root.is_dir():
        try:
            names = sorted(entry.name + "/" * entry.is_dir() for entry in root.iterdir())
            more = f" and {len(names) - 8} more" if len(names) > 8 else ""
            found = ", ".join(names[:8]) + more or "nothing, the folder is empty"
        except OSError as error:
            found = f"a folder that cannot be read ({error.strerror or error})"
    else:
        found = "a file, not a folder" if root.exists() else "no such folder"
    return DatasetError(f"no {name} in {root}: {problem}\nexpected:\n{tree}\nfound: {found}\n{advice}")


@contextmanager
def downloading(name: str, root: Path) -> Iterator[None]:
    """Turn a failure of the network, the disk or a checksum into a DatasetError."""
    try:
        yield
    except (OSError, RuntimeError) as error:  # torchvision reports a wrong checksum as RuntimeError
        raise DatasetError(f"{name} could not be fetched into {root}: {error}. Put its files there yourself") from error
