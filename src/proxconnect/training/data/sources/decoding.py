"""Compressed pictures."""

from pathlib import Path
from typing import IO

from PIL import Image

from proxconnect._support.regular_files import require_regular
from proxconnect.training.data.errors import DatasetError

FORMATS = ("JPEG", "PNG", "WEBP")
"""What is decoded, told by content. Pillow knows more, among them PostScript, which it gives to Ghostscript to run."""

MOST_PIXELS = 89_478_485
"""A larger picture is refused before there is room for it; Pillow itself warns, and reads on."""


def decoded(source: Path | IO[bytes], where: str) -> Image.Image:
    """The RGB picture in a file or stream; DatasetError, which begins with `where`, if it is none or is damaged."""
    try:
        if isinstance(source, Path):
            require_regular(source)
        with Image.open(source, formats=FORMATS) as image:
            if image.width * image.height > MOST_PIXELS:
                raise ValueError(f"{image.width} x {image.height} pixels, more than {MOST_PIXELS:,}")
            return image.convert("RGB")
    except MemoryError:
        raise
    except Exception as error:  # a damaged picture ends Pillow's readers in an error of any kind
        reason = str(error) or type(error).__name__
        raise DatasetError(f"{where} is no picture or is damaged ({reason}): fetch it again, or remove it") from error
