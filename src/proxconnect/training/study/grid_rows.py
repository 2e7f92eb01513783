"""The rows that the blocks of a grid make."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import reduce
from itertools import product
from typing import Any

from proxconnect.training.study.grid import Block, Grid, Label, chosen_labels
from proxconnect.training.study.rows import Configuration, Labels, StudyRow, described, overridden
from proxconnect.training.study.yaml_files import GridError

_Key = tuple[tuple[str, str], ...]
"""The labels of a row, as (axis, label) in the order of the axes."""


def rows_of(grid: Grid) -> list[StudyRow]:
    """Return the rows of all blocks of `grid`, in order, each once and after the row that it starts from.

    GridError if two rows have the same labels but different configurations, or the same configuration under different
    labels; if several labels of a row have `after`, or it fits no row or several; or if a row starts from itself.
    """
    drafts: dict[_Key, tuple[Configuration, Label]] = {}
    for labels, configuration, origin in (draft for block in grid.blocks for draft in _drafts(grid, block)):
        if drafts.setdefault(tuple(labels.items()), (configuration, origin))[0] != configuration:
            raise GridError(f"two blocks have a row {described(labels)!r}, with other settings: "
                            "let a label of an axis tell them apart")  # fmt: skip
    made: dict[_Key, StudyRow] = {}

    def make(key: _Key, path: tuple[_Key, ...] = ()) -> StudyRow:
        """Return the row with these labels, made after the row that it starts from."""
        labels, (configuration, origin) = dict(key), drafts[key]
        if key in path:
            raise GridError(f"{described(labels)}: by `after` it starts from itself")
        if key not in made:
            after = None if origin.after is None else make(_origin(labels, origin.after, drafts), (*path, key))
            made[key] = StudyRow(labels, configuration, grid.run, after, origin.checkpoint)
        return made[key]

    by_address: dict[str, StudyRow] = {}
    for row in map(make, drafts):
        other = by_address.setdefault(row.key, row)
        if other is not row:
            raise GridError(f"{str(other)!r} and {str(row)!r} are the same configuration: exclude one, or give one "
                            "of the labels what it changes")  # fmt: skip
    return list(made.values())


def selected(rows: Sequence[StudyRow], grid: Grid, only: Mapping[str, Any]) -> list[StudyRow]:
    """Return the rows that have one of the labels in `only` on each of its axes; GridError for one not in `grid`."""
    wanted = chosen_labels(only, grid.axes, "--only")
    return [row for row in rows if _matches(row.labels, wanted)]


def _drafts(grid: Grid, block: Block) -> Iterator[tuple[Labels, Configuration, Label]]:
    """Yield the labels and the configuration of each row, and the label that says which row it starts from."""
    for choice in product(*block.axes.values()):
        labels = dict(zip(block.axes, choice, strict=True))
        if any(_matches(labels, excluded) for excluded in block.exclude):
            continue
        chosen = [grid.axes[axis][label] for axis, label in labels.items()]
        changes = [*(label.overrides for label in chosen), *(setting.overrides for setting in grid.tuned_for(labels))]
        configuration = reduce(overridden, (*changes, block.overrides), dict(grid.base))
        origins = [label for label in chosen if label.after is not None]
        if len(origins) > 1:
            raise GridError(f"{described(labels)}: several of its labels have `after`: a row starts from one")
        yield labels, configuration, origins[0] if origins else Label({})


def _matches(labels: Labels, wanted: Mapping[str, Sequence[str]]) -> bool:
    return all(labels.get(axis) in among for axis, among in wanted.items())


def _origin(labels: Labels, after: Labels, keys: Iterable[_Key]) -> _Key:
    """Return the one of `keys` that has the labels `after`, and those in `labels` on the other axes that both have."""
    like = labels | after
    fitting = [key for key in keys if after.items() <= dict(key).items()
               and all(like.get(axis, label) == label for axis, label in key)]  # fmt: skip
    if len(fitting) == 1:
        return fitting[0]
    wanted = described(after)
    if not fitting:
        raise GridError(f"{described(labels)} starts after {wanted!r}, alike in all else, and no block has "
                        f"such a row ({described(like)!r}): add it, or exclude this one")  # fmt: skip
    found = " or ".join(repr(described(dict(key))) for key in fitting[:3])
    raise GridError(f"{described(labels)} starts after {wanted!r}, which is {found}: say more in `after`")
