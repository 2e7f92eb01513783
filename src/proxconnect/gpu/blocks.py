"""Choose the sizes of the tiles of a kernel by the sizes of the product."""

from dataclasses import dataclass
from functools import lru_cache
from math import gcd

_MOST_SPLITS = 64


@dataclass(frozen=True)
class Blocks:
    """The sizes of the tile of a program, the number of programs that share the columns of a tile, and their warps."""

    rows: int
    outputs: int
    words: int
    splits: int
    warps: int


@lru_cache(maxsize=4096)
def blocks_of(rows: int, outputs: int, words: int, group_words: int = 0, *, is_wide: bool = False) -> Blocks:
    """Return the blocks of a product of `rows` rows by a weight of so many outputs and words of 64 columns.

    A tile for tensor cores lies within a group of `group_words` words, if there are groups. `is_wide` says that inputs
    take more registers, because they are float32 or have an address each, as pixels have.
    """
    across, down, deep, warps = (32, 1, 8, 4) if rows == 1 else _tile(rows, is_wide)
    if rows > 1 and group_words:
        deep = gcd(deep, group_words)
    tiles, steps = -(-outputs // across) * -(-rows // down), -(-words // deep)
    programs, least = _programs(rows)
    return Blocks(down, across, deep, max(1, min(-(-programs // tiles), steps // least, _MOST_SPLITS)), warps)


def _programs(rows: int) -> tuple[int, int]:
    """Return the number of programs to reach by splits, and the fewest steps of each, whose sums must pay.

    The first is for the 132 multiprocessors of an H100, on which bits of few rows should arrive by many programs at
    once. It is fixed, and not that of the GPU at hand, so that sums are added in the same order on every GPU.
    """
    if rows == 1:
        return 1024, 2
    return (512 if rows <= 32 else 256), 8


def _tile(rows: int, is_wide: bool) -> tuple[int, int, int, int]:
    """Return outputs, rows, words and warps of a tile for tensor cores, which take at least 16 of the first two."""
    if rows <= 16:
        return 64, 16, 2, 4
    if rows <= 32:
        return 64, 32, 1 if is_wide else 2, 4
    if is_wide:
        return 128, 64, 1, 8
    return (128, 64, 1, 4) if rows <= 512 else (128, 128, 1, 8)
