"""A grid file: what stays the same in a study, the axes along which its rows differ, and which of them there are.

docs/grids.md has an example with every key, and says which setting wins.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from proxconnect.training.study import yaml_files
from proxconnect.training.study.names import GridError, require_known
from proxconnect.training.study.rows import Labels

RUN = "proxconnect.training.row:run_row"
"""What runs a row, unless the grid says otherwise."""

_KEYS = ("base", "axes", "blocks", "tuned", "compare", "tables", "folder", "run")

_OF_BLOCKS = ("exclude", "set")

OTHER_COLUMNS = (
    "accuracy.reestimated", "accuracy.hard", "accuracy.soft", "seconds", "packed_bytes", "curve", "figure", "seeds",
    "mean", "sd", "axis", "one", "other", "low", "high",
)  # fmt: skip
"""Columns of tables beside those of axes."""


@dataclass(frozen=True)
class Label:
    """What a label of an axis changes; `after` names the row that those under it start from."""

    overrides: Mapping[str, Any]
    after: Labels | None = None
    checkpoint: str | None = None
    """The key of the configuration that takes the last checkpoint of that row."""
    tuned_as: Mapping[str, str] = field(default_factory=dict)
    """The labels whose tuned settings its rows have where nothing was tuned for their own."""


@dataclass(frozen=True)
class Block:
    """A product of axes, less what is excluded. An axis that the block leaves out (`axis: null`) is absent."""

    axes: Mapping[str, tuple[str, ...]]
    exclude: tuple[Mapping[str, tuple[str, ...]], ...]
    overrides: Mapping[str, Any]


@dataclass(frozen=True)
class Setting:
    """Overrides of the rows that have these labels."""

    when: Labels
    overrides: Mapping[str, Any]


@dataclass(frozen=True)
class Layout:
    """Which axis has a line for each of its labels in tables, and which have the columns. Others make tables apart."""

    lines: str = "pair"
    columns: tuple[str, ...] = ("mode", "start")


@dataclass(frozen=True)
class Grid:
    """What a grid file says, checked."""

    path: Path
    folder: Path
    """Where the ledger, the tables and the pictures lie; by default that of the file."""
    run: str
    base: Mapping[str, Any]
    axes: Mapping[str, Mapping[str, Label]]
    blocks: tuple[Block, ...]
    tuned: tuple[Setting, ...]
    compare: Mapping[str, tuple[tuple[str, str], ...]]
    layout: Layout

    def tuned_for(self, labels: Labels) -> list[Setting]:
        """The tuned settings of a row with these labels; where there are none, those of what they are `tuned_as`."""
        asked = dict(labels)
        for axis, label in labels.items():
            asked |= self.axes[axis][label].tuned_as
        own, others = ([s for s in self.tuned if s.when.items() <= of.items()] for of in (labels, asked))
        return own or others

    @classmethod
    def read(cls, path: Path) -> Self:
        """The grid of a YAML file. GridError, in one line, for what it cannot mean."""
        content = yaml_files.read(path)
        for key in content:
            require_known(str(key), _KEYS, f"key of {path}")
        axes = _axes(content.get("axes"), path.parent)
        _require_tuned_as(axes)
        if not axes:
            raise GridError(f"{path} needs `axes:`, as in axes: {{seed: [0, 1, 2]}}")
        run = content.get("run", RUN)
        if not re.fullmatch(r"[\w.]+:[\w.]+", str(run)):
            raise GridError(f"run: {run!r} is no MODULE:CALLABLE")
        return cls(
            path=path,
            folder=path.parent / str(content.get("folder", ".")),
            run=run,
            base=_base(content.get("base", {}), path.parent),
            axes=axes,
            blocks=tuple(_block(block, axes) for block in _list(content.get("blocks", [{}]), "blocks")),
            tuned=tuple(s for name in _names(content.get("tuned", [])) for s in _tuned(path.parent / name, axes)),
            compare=_comparisons(_mapping(content.get("compare", {}), "compare"), axes),
            layout=_layout(_mapping(content.get("tables", {}), "tables"), axes),
        )


def _base(base: Any, folder: Path) -> Mapping[str, Any]:
    return yaml_files.read(folder / base) if isinstance(base, str) else _mapping(base, "base")


def _axes(axes: Any, folder: Path) -> dict[str, dict[str, Label]]:
    """The axes, which may be a file of their own, for several grids of one ledger."""
    content = yaml_files.read(folder / axes) if isinstance(axes, str) else _mapping(axes, "axes")
    return {str(name): _axis(str(name), labels) for name, labels in content.items()}


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


def _require_tuned_as(axes: Mapping[str, Mapping[str, Label]]) -> None:
    """GridError where `tuned_as` names an axis that there is not; its labels may be of the tuning grid alone."""
    for labels in axes.values():
        for label in labels.values():
            for axis in label.tuned_as:
                require_known(axis, axes, "axis in tuned_as")


def _label(changes: Any, where: str) -> Label:
    overrides = dict(_mapping(changes, where))
    after, checkpoint = overrides.pop("after", None), overrides.pop("checkpoint", None)
    tuned_as = _labels(overrides.pop("tuned_as", {}), f"{where}: tuned_as")
    if (after is None) != (checkpoint is None):
        raise GridError(f"{where}: `after` (labels of another row) and `checkpoint` (the key that takes its last "
                        "checkpoint) go together")  # fmt: skip
    return Label(overrides, None if after is None else _labels(after, f"{where}: after"), checkpoint, tuned_as)


def _block(block: Any, axes: Mapping[str, Mapping[str, Label]]) -> Block:
    content = _mapping(block, "blocks")
    chosen = {str(name): value for name, value in content.items() if name not in _OF_BLOCKS}
    for name in chosen:
        require_known(name, [*axes, *_OF_BLOCKS], "axis in blocks")
    absent = {name for name, value in chosen.items() if value is None}
    selected = chosen_labels({n: v for n, v in chosen.items() if v is not None}, axes, "blocks")
    return Block(
        axes={name: selected.get(name, tuple(labels)) for name, labels in axes.items() if name not in absent},
        exclude=tuple(
            chosen_labels(_mapping(e, "exclude"), axes, "exclude") for e in _list(content.get("exclude", []), "exclude")
        ),
        overrides=_mapping(content.get("set", {}), "blocks: set"),
    )


def chosen_labels(
    chosen: Mapping[Any, Any], axes: Mapping[str, Mapping[str, Label]], where: str
) -> dict[str, tuple[str, ...]]:
    """For axes the labels given, one or a list. GridError with near names for those that there are not."""
    result = {}
    for name, given in chosen.items():
        require_known(str(name), axes, f"axis in {where}")
        labels = tuple(str(label) for label in (given if isinstance(given, list | tuple) else [given]))
        for label in labels:
            require_known(label, axes[str(name)], f"label of {name} in {where}")
        result[str(name)] = labels
    return result


def _tuned(path: Path, axes: Mapping[str, Mapping[str, Label]]) -> tuple[Setting, ...]:
    """The settings of a file; labels that no axis has are of other grids and stay unused."""
    settings = []
    for item in _list(yaml_files.read(path).get("settings"), f"{path}: settings"):
        content = _mapping(item, f"{path}: settings")
        when = _labels(content.get("when"), f"{path}: when")
        for name in when:
            require_known(name, axes, f"axis in {path}")
        settings.append(Setting(when, _mapping(content.get("set"), f"{path}: set")))
    return tuple(settings)


def _comparisons(
    content: Mapping[Any, Any], axes: Mapping[str, Mapping[str, Label]]
) -> dict[str, tuple[tuple[str, str], ...]]:
    result = {}
    for name, couples in content.items():
        require_known(str(name), axes, "axis in compare")
        for couple in _list(couples, f"compare: {name}"):
            if not isinstance(couple, list) or len(couple) != 2:
                raise GridError(f"compare: {name}: {couple!r} is no couple of labels, as [bnn++, bnn+]")
            chosen_labels({name: couple}, axes, "compare")
        result[str(name)] = tuple((str(one), str(other)) for one, other in couples)
    return result


def _names(value: Any) -> list[str]:
    """One name or a list of names."""
    return [str(name) for name in (value if isinstance(value, list) else [value])]


def _layout(content: Mapping[Any, Any], axes: Mapping[str, Mapping[str, Label]]) -> Layout:
    for key in content:
        require_known(str(key), ("lines", "columns"), "key of tables")
    usual = Layout()
    lines, columns = content.get("lines", usual.lines), _names(content.get("columns", list(usual.columns)))
    for axis in (lines, *columns) if content else ():
        require_known(str(axis), axes, "axis in tables")
    return Layout(str(lines), tuple(columns))


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
