"""From a grid to its rows."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import product
from typing import Any

from proxconnect.training.study.grid import Block, Grid, Label, chosen_labels
from proxconnect.training.study.names import GridError
from proxconnect.training.study.rows import Configuration, Labels, Row, described, overridden


def rows_of(grid: Grid) -> list[Row]:
    """Return the rows of all blocks in their order, each once and after the row that it starts from.

    GridError if labels do not tell rows apart, or a row starts from none or from several.
    """
    drafts: dict[frozenset[tuple[str, str]], _Draft] = {}
    for draft in (draft for block in grid.blocks for draft in _drafts(grid, block)):
        known = drafts.setdefault(frozenset(draft.labels.items()), draft)
        if known.configuration != draft.configuration:
            raise GridError(f"two blocks have a row {described(draft.labels)!r}, with other settings: "
                            "let a label of an axis tell them apart")  # fmt: skip
    made: dict[_Draft, Row] = {}

    def make(draft: _Draft, path: tuple[_Draft, ...] = ()) -> Row:
        """Return the row of a draft, made after the row that it starts from."""
        if draft in path:
            raise GridError(f"{described(draft.labels)}: by `after` it starts from itself")
        if draft not in made:
            before = None if draft.after is None else _origin(draft, draft.after, drafts.values())
            after = None if before is None else make(before, (*path, draft))
            made[draft] = Row(draft.labels, draft.configuration, grid.run, after, draft.checkpoint)
        return made[draft]

    for draft in drafts.values():
        make(draft)
    by_key: dict[str, Row] = {}
    for row in made.values():
        other = by_key.setdefault(row.key, row)
        if other is not row:
            raise GridError(f"{str(other)!r} and {str(row)!r} are the same configuration: exclude one, or give one "
                            "of the labels what it changes")  # fmt: skip
    return list(made.values())


def selected(rows: Sequence[Row], grid: Grid, only: Mapping[str, Any]) -> list[Row]:
    """Return the rows with one of the labels given for each axis. GridError if the grid does not have them."""
    wanted = chosen_labels(only, grid.axes, "--only")
    return [row for row in rows if _matches(row.labels, wanted)]


@dataclass(frozen=True, eq=False)
class _Draft:
    """A row that starts from labels, not from a row yet."""

    labels: Labels
    configuration: Configuration
    after: Labels | None
    checkpoint: str | None


def _drafts(grid: Grid, block: Block) -> Iterator[_Draft]:
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
        origin = origins[0] if origins else Label({})
        yield _Draft(labels, configuration, origin.after, origin.checkpoint)


def _matches(labels: Labels, wanted: Mapping[str, Sequence[str]]) -> bool:
    return all(labels.get(axis) in among for axis, among in wanted.items())


def _origin(draft: _Draft, after: Labels, drafts: Iterable[_Draft]) -> _Draft:
    """Return the draft with the labels `after` that has those of `draft` on the other axes that both have."""
    like = draft.labels | after
    fitting = [d for d in drafts if after.items() <= d.labels.items()
               and all(like.get(axis, label) == label for axis, label in d.labels.items())]  # fmt: skip
    if len(fitting) == 1:
        return fitting[0]
    wanted = described(after)
    if not fitting:
        raise GridError(f"{described(draft.labels)} starts after {wanted!r}, alike in all else, and no block has "
                        f"such a row ({described(like)!r}): add it, or exclude this one")  # fmt: skip
    found = " or ".join(repr(described(d.labels)) for d in fitting[:3])
    raise GridError(f"{described(draft.labels)} starts after {wanted!r}, which is {found}: say more in `after`")
