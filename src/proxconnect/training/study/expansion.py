"""From a grid to its rows."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from proxconnect.training.study.grid import Block, Grid, Label, chosen_labels
from proxconnect.training.study.names import GridError
from proxconnect.training.study.overrides import Configuration, overridden
from proxconnect.training.study.rows import Labels, Row, described


def rows_of(grid: Grid) -> list[Row]:
    """The rows of all blocks in their order, each once, an earlier one always before those that start from it.

    GridError where labels do not tell rows apart, or where a row starts from none or from several.
    """
    drafts = [draft for block in grid.blocks for draft in _drafts(grid, block)]
    distinct: dict[tuple[tuple[str, str], ...], _Draft] = {}
    for draft in drafts:
        known = distinct.setdefault(tuple(sorted(draft.labels.items())), draft)
        if known.configuration != draft.configuration:
            raise GridError(f"two blocks have a row {described(draft.labels)!r}, with other settings: "
                            "let a label of an axis tell them apart")  # fmt: skip
    made: dict[int, Row] = {}
    for draft in distinct.values():
        _make(draft, list(distinct.values()), grid.run, made, ())
    _require_distinct(list(made.values()))
    return list(made.values())


def selected(rows: Sequence[Row], grid: Grid, only: Mapping[str, Any]) -> list[Row]:
    """Those with one of the labels given for each axis. GridError for axes and labels that the grid has not."""
    wanted = chosen_labels(only, grid.axes, "--only")
    return [row for row in rows if _matches(row.labels, wanted)]


@dataclass(frozen=True, eq=False)
class _Draft:
    """A row that does not know yet what it starts from."""

    labels: Labels
    configuration: Configuration
    origin: Label | None


def _drafts(grid: Grid, block: Block) -> Iterator[_Draft]:
    for choice in product(*block.axes.values()):
        labels = dict(zip(block.axes, choice, strict=True))
        if any(_matches(labels, excluded) for excluded in block.exclude):
            continue
        chosen = [grid.axes[axis][label] for axis, label in labels.items()]
        tuned = [setting.overrides for setting in grid.tuned_for(labels)]
        configuration = dict(grid.base)
        for overrides in (*(label.overrides for label in chosen), *tuned, block.overrides):
            configuration = overridden(configuration, overrides)
        origins = [label for label in chosen if label.after is not None]
        if len(origins) > 1:
            raise GridError(f"{described(labels)}: several of its labels have `after`: a row starts from one")
        yield _Draft(labels, configuration, origins[0] if origins else None)


def _matches(labels: Labels, wanted: Mapping[str, Sequence[str]]) -> bool:
    return all(labels.get(axis) in among for axis, among in wanted.items())


def _make(draft: _Draft, drafts: Sequence[_Draft], run: str, made: dict[int, Row], path: tuple[int, ...]) -> Row:
    """The row of a draft, after that which it starts from."""
    if id(draft) in path:
        raise GridError(f"{described(draft.labels)}: by `after` it starts from itself")
    if id(draft) not in made:
        after = None
        if draft.origin is not None:
            after = _make(_origin(draft, drafts), drafts, run, made, (*path, id(draft)))
        checkpoint = None if draft.origin is None else draft.origin.checkpoint
        made[id(draft)] = Row(draft.labels, draft.configuration, run, after, checkpoint)
    return made[id(draft)]


def _origin(draft: _Draft, drafts: Sequence[_Draft]) -> _Draft:
    """The one that has the labels of `after`, and those of `draft` on its other axes."""
    assert draft.origin is not None
    assert draft.origin.after is not None
    after, like = draft.origin.after, draft.labels | draft.origin.after
    fitting = [d for d in drafts if after.items() <= d.labels.items() and _agree(d.labels, like)]
    if len(fitting) == 1:
        return fitting[0]
    wanted = described(after)
    if not fitting:
        raise GridError(f"{described(draft.labels)} starts after {wanted!r}, alike in all else, and no block has "
                        f"such a row ({described(like)!r}): add it, or exclude this one")  # fmt: skip
    found = " or ".join(repr(described(d.labels)) for d in fitting[:3])
    raise GridError(f"{described(draft.labels)} starts after {wanted!r}, which is {found}: say more in `after`")


def _agree(one: Labels, other: Labels) -> bool:
    """Whether they are alike on the axes that both have."""
    return all(other.get(axis, label) == label for axis, label in one.items())


def _require_distinct(rows: Sequence[Row]) -> None:
    by_key: dict[str, Row] = {}
    for row in rows:
        other = by_key.setdefault(row.key, row)
        if other is not row:
            raise GridError(f"{str(other)!r} and {str(row)!r} are the same configuration: exclude one, or give one "
                            "of the labels what it changes")  # fmt: skip
