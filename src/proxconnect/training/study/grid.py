"""A grid file and its rows: the base configuration, the axes along which rows differ, and the blocks of rows.

docs/grids.md has an example with every key, and says which setting wins.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import reduce
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple, Self

from proxconnect.training.study import yaml_files
from proxconnect.training.study.rows import Configuration, Labels, Row, described, overridden
from proxconnect.training.study.yaml_files import GridError

_KEYS = ("base", "axes", "blocks", "tuned", "compare", "tables", "folder", "run")

_OF_BLOCKS = ("exclude", "set")

OTHER_COLUMNS = (
    "accuracy.reestimated", "accuracy.hard", "accuracy.soft", "seconds", "packed_bytes", "curve", "figure", "seeds",
    "mean", "sd", "axis", "one", "other", "low", "high",
)  # fmt: skip
"""Columns of tables beside those of axes."""

Chosen = Mapping[str, tuple[str, ...]]
"""Labels for some axes."""


@dataclass(frozen=True)
class Label:
    """A label of an axis: what it changes in the base configuration, and the row that its rows start from.

    `overrides` are changes as `rows.overridden` takes them. If `after` is given, each row with this label starts from
    the last checkpoint of the row that has the labels `after` and otherwise the same ones. The path of that checkpoint
    goes into the row's configuration under the dotted key `checkpoint`.
    """

    overrides: Mapping[str, Any]
    after: Labels | None = None
    checkpoint: str | None = None
    tuned_as: Labels = field(default_factory=dict)
    """Labels by axis: rows with no tuned settings of their own take those of a row with these labels instead."""


Axes = Mapping[str, Mapping[str, Label]]


class Block(NamedTuple):
    """A block of a grid: a row for each combination of the labels in `axes`, except those that match one of `exclude`.

    `axes` lacks an axis that the file sets to null; the rows have no label for it. `overrides` is the block's `set:`,
    the changes of the configuration that win over all others.
    """

    axes: Chosen
    exclude: list[Chosen]
    overrides: Mapping[str, Any]


class Setting(NamedTuple):
    """A tuned setting: changes (`overrides`) of the configuration of every row that has all the labels `when`."""

    when: Labels
    overrides: Mapping[str, Any]


class Layout(NamedTuple):
    """The layout of result tables: a line for each label of `lines`, a column for each combination of `columns`.

    Each combination of labels of the remaining axes has its own table. Seeds have no axis there: a cell is their mean.
    """

    lines: str = "pair"
    columns: tuple[str, ...] = ("mode", "start")


@dataclass(frozen=True)
class Grid:
    """A parsed and checked grid file: the base configuration, the axes, the blocks of rows, and the layout of tables.

    Create one with `Grid.read`. docs/grids.md explains each key. `run` names the row function as "module:callable".
    `compare` has, by axis, the couples of labels (one, other) whose results are compared.
    """

    path: Path
    folder: Path
    """Where the ledger, the tables and the pictures lie; by default that of the file."""
    run: str
    base: Mapping[str, Any]
    axes: Axes
    blocks: list[Block]
    tuned: list[Setting]
    compare: Mapping[str, Sequence[tuple[str, str]]]
    layout: Layout

    def tuned_for(self, labels: Labels) -> list[Setting]:
        """Return the tuned settings that apply to a row with these labels; empty if nothing was tuned for it.

        If none applies, try again with the labels that `tuned_as` names in place of the row's own.
        """
        asked = dict(labels)
        for axis, label in labels.items():
            asked |= self.axes[axis][label].tuned_as
        own, others = ([s for s in self.tuned if s.when.items() <= of.items()] for of in (labels, asked))
        return own or others

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read and check the grid file `path` (YAML), and the files that it names relative to its folder.

        GridError if one cannot be read, or if a key, an axis, a label or a value is wrong.
        """
        content, folder = yaml_files.read(path), path.parent
        for key in content:
            require_known(str(key), _KEYS, f"key of {path}")
        axes = {str(name): _axis(str(name), labels) for name, labels in _file_or(content.get("axes"), folder, "axes")}
        if not axes:
            raise GridError(f"{path} needs `axes:`, as in axes: {{seed: [0, 1, 2]}}")
        for label in (label for labels in axes.values() for label in labels.values()):
            for axis in label.tuned_as:  # whose labels may be of the tuning grid alone
                require_known(axis, axes, "axis in tuned_as")
        run = content.get("run", "proxconnect.training.row:run_row")
        if not re.fullmatch(r"[\w.]+:[\w.]+", str(run)):
            raise GridError(f"run: {run!r} is no MODULE:CALLABLE")
        return cls(
            path=path,
            folder=folder / str(content.get("folder", ".")),
            run=run,
            base=dict(_file_or(content.get("base", {}), folder, "base")),
            axes=axes,
            blocks=[_block(block, axes) for block in _list(content.get("blocks", [{}]), "blocks")],
            tuned=[setting for name in _names(content.get("tuned", [])) for setting in _tuned(folder / name, axes)],
            compare={
                str(axis): _couples(str(axis), couples, axes)
                for axis, couples in _mapping(content.get("compare", {}), "compare").items()
            },
            layout=_layout(_mapping(content.get("tables", {}), "tables"), axes),
        )


def require_known(name: str, known: Iterable[str], what: str) -> None:
    """Raise GridError, listing close matches, if `name` is not in `known`; `what` names it, as "axis in blocks"."""
    names = list(known)
    if name not in names:
        near = get_close_matches(name, names, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(map(repr, near))}?" if near else f"there are {', '.join(names) or 'none'}"
        raise GridError(f"unknown {what} {name!r}: {hint}")


def chosen_labels(chosen: Any, axes: Axes, where: str) -> dict[str, tuple[str, ...]]:
    """Check `chosen`, which maps names of axes to one label or a list of labels, and return the labels as tuples.

    GridError, listing close matches, if an axis or a label is not in `axes`. The message calls the place `where`.
    """
    result = {}
    for name, given in _mapping(chosen, where).items():
        require_known(str(name), axes, f"axis in {where}")
        result[str(name)] = tuple(_names(given))
        for label in result[str(name)]:
            require_known(label, axes[str(name)], f"label of {name} in {where}")
    return result


def _axis(name: str, labels: Any) -> dict[str, Label]:
    if name in (*_OF_BLOCKS, *OTHER_COLUMNS):
        raise GridError(f"an axis cannot be called {name!r}, which blocks or tables have a meaning for")
    if isinstance(labels, list):
        if name != "seed":
            raise GridError(f"axes: {name}: only `seed` may be a list; give each label what it changes, as "
                            f"{name}: {{{(labels or ['one'])[0]}: {{model.key: value}}}}")  # fmt: skip
        for seed in labels:
            if isinstance(seed, dict | list):
                raise GridError(f"axes: seed: {seed!r} is no seed: give whole numbers, as seed: [0, 1, 2]")
        labels = {seed: {"seed_everything": seed} for seed in labels}
    if not labels:
        raise GridError(f"axes: {name} has no labels")
    return {str(label): _label(changes, f"axes: {name}: {label}") for label, changes in _mapping(labels, name).items()}


def _label(changes: Any, where: str) -> Label:
    overrides = dict(_mapping(changes, where))
    after, checkpoint = overrides.pop("after", None), overrides.pop("checkpoint", None)
    tuned_as = _labels(overrides.pop("tuned_as", {}), f"{where}: tuned_as")
    if (after is None) != (checkpoint is None):
        raise GridError(f"{where}: `after` (labels of another row) and `checkpoint` (the key that takes its last "
                        "checkpoint) go together")  # fmt: skip
    return Label(overrides, None if after is None else _labels(after, f"{where}: after"), checkpoint, tuned_as)


def _block(block: Any, axes: Axes) -> Block:
    chosen = {str(name): value for name, value in _mapping(block, "blocks").items()}
    exclude, overrides = chosen.pop("exclude", []), chosen.pop("set", {})
    for name in chosen:
        require_known(name, [*axes, *_OF_BLOCKS], "axis in blocks")
    selected = chosen_labels({name: value for name, value in chosen.items() if value is not None}, axes, "blocks")
    kept = [name for name in axes if name not in chosen or name in selected]
    return Block(
        axes={name: selected.get(name, tuple(axes[name])) for name in kept},
        exclude=[chosen_labels(excluded, axes, "exclude") for excluded in _list(exclude, "exclude")],
        overrides=_mapping(overrides, "blocks: set"),
    )


def _tuned(path: Path, axes: Axes) -> list[Setting]:
    """Return the settings of a file; labels that no axis has are of other grids and stay unused."""
    settings = []
    for item in _list(yaml_files.read(path).get("settings"), f"{path}: settings"):
        content = _mapping(item, f"{path}: settings")
        when = _labels(content.get("when"), f"{path}: when")
        for name in when:
            require_known(name, axes, f"axis in {path}")
        settings.append(Setting(when, _mapping(content.get("set"), f"{path}: set")))
    return settings


def _couples(axis: str, couples: Any, axes: Axes) -> list[tuple[str, str]]:
    require_known(axis, axes, "axis in compare")
    for couple in _list(couples, f"compare: {axis}"):
        if not isinstance(couple, list) or len(couple) != 2:
            raise GridError(f"compare: {axis}: {couple!r} is no couple of labels, as [bnn++, bnn+]")
        chosen_labels({axis: couple}, axes, "compare")
    return [(str(one), str(other)) for one, other in couples]


def _layout(content: Mapping[Any, Any], axes: Axes) -> Layout:
    for key in content:
        require_known(str(key), Layout._fields, "key of tables")
    layout = Layout(str(content.get("lines", Layout().lines)), tuple(_names(content.get("columns", Layout().columns))))
    for axis in (layout.lines, *layout.columns) if content else ():
        require_known(axis, axes, "axis in tables")
    return layout


def _file_or(value: Any, folder: Path, where: str) -> Any:
    """Return the items of a mapping, or of a YAML file that holds it."""
    return (yaml_files.read(folder / value) if isinstance(value, str) else _mapping(value, where)).items()


def _names(value: Any) -> list[str]:
    """Return one name or a list of names as a list."""
    return [str(name) for name in (value if isinstance(value, list | tuple) else [value])]


def _labels(content: Any, where: str) -> Labels:
    return {str(name): str(label) for name, label in _mapping(content, where).items()}


def _mapping(value: Any, where: str) -> Mapping[Any, Any]:
    if not isinstance(value, Mapping):
        raise GridError(f"{where} must be a mapping, as {{name: value}}, got {value!r}")
    return value


def _list(value: Any, where: str) -> Sequence[Any]:
    if not isinstance(value, list):
        raise GridError(f"{where} must be a list, got {value!r}")
    return value


def rows_of(grid: Grid) -> list[Row]:
    """Return the rows of all blocks of `grid`, in order, each once and after the row that it starts from.

    GridError if two rows have the same labels but different configurations, or the same configuration under different
    labels; and if the labels of an `after` fit no row, several rows, or the row itself.
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
    """Return the rows that have, on each axis in `only`, one of the labels given there (one label or a list).

    GridError if `grid` lacks such an axis or label.
    """
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
