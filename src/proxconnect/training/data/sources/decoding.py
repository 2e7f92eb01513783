"""Compressed pictures."""

from pathlib import Path
from typing import IO

from PIL import Image

from proxconnect.regular import require_regular
from proxconnect.training.data.errors import DatasetError


def decoded(source: Path | IO[bytes], where: str) -> Image.Image:
    """The RGB picture in a file or stream; DatasetError, which begins with `where`, if it is none or is damaged."""
    try:
        if isinstance(source, Path):
            require_regular(source)
        with Image.open(source) as image:
            return image.convert("RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:  # all that PIL's readers raise
        raise DatasetError(f"{where} is no picture or is damaged ({error}): fetch it again, or remove it") from error
