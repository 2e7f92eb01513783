"""Decode compressed pictures."""

from pathlib import Path
from typing import IO

from PIL import Image

from proxconnect._support.regular_files import require_regular
from proxconnect.training.data.errors import DatasetError

FORMATS = ("JPEG", "PNG", "WEBP")
"""The formats that are decoded, recognised by content. Pillow would give others, as PostScript, to programs to run."""

MOST_PIXELS = 89_478_485
"""The largest picture; Pillow only warns of larger ones."""


def decoded(source: Path | IO[bytes], where: str) -> Image.Image:
    """Decode a file or stream as RGB; DatasetError, which begins with `where`, if it is damaged or no picture."""
    try:
        if isinstance(source, Path):
            require_regular(source)
        with Image.open(source, formats=FORMATS) as image:
            if image.width * image.height > MOST_PIXELS:
                raise ValueError(f"{image.width} x {image.height} pixels, more than {MOST_PIXELS:,}")
            return image.convert("RGB")
    except MemoryError:
        raise
    except Exception as error:  # Pillow raises any kind of error for a damaged picture
        reason = str(error) or type(error).__name__
        raise DatasetError(f"{where} is no picture or is damaged ({reason}): fetch it again, or remove it") from error
