"""What is said where a download fails."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from proxconnect.training.data.errors import DatasetError


@contextmanager
def downloading(name: str, root: Path) -> Iterator[None]:
    """Turn a failure of the network, the disk or a checksum into a DatasetError that says what was wanted."""
    try:
        yield
    except (OSError, RuntimeError) as error:  # torchvision reports a wrong checksum as RuntimeError
        raise DatasetError(f"{name} could not be fetched into {root}: {error}. Put its files there yourself") from error
