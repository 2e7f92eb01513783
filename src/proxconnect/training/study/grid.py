"""A grid file; docs/grids.md has an example with every key, and says which setting wins."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple, Self

from proxconnect.training.study import yaml_files
from proxconnect.training.study.rows import Labels
from proxconnect.training.study.yaml_files import GridError

_KEYS = ("base", "axes", "blocks", "tuned", "compare", "ranks", "tables", "folder", "run")

USUAL_RUN = "proxconnect.training.row:run_row"
"""The row function of a file that names none."""

_OF_BLOCKS = ("exclude", "set")

FIGURES = ("accuracy.reestimated", "accuracy.hard", "accuracy.soft", "loss.hard", "seconds", "packed_bytes")
"""The measured numbers that have columns in frames of results."""

OTHER_COLUMNS = (*FIGURES, *["curve", "figure", "seeds", "mean", "sd", "axis", "one", "other", "low", "high"])
"""All columns of frames of results, except those of axes."""


@dataclass(frozen=True)
class Label:
    """The effect of a label of an axis: changes `overrides` of the base configuration, as in `overridden`.

    If `after` is given, a row with this label starts from the last checkpoint of the row with the labels `after` and
    the same label on each other axis that both have. The dotted key `checkpoint` of the configuration takes its path.
    """

    overrides: Mapping[str, Any]
    after: Labels | None = None
    checkpoint: str | None = None
    tuned_as: Labels = field(default_factory=dict)
    """Labels by axis: a row with no tuned settings takes those of a row with these labels instead."""


Axes = Mapping[str, Mapping[str, Label]]


class Block(NamedTuple):
    """A block of a grid: a row for each combination of `axes` that no `exclude` matches; `overrides` apply last."""

    axes: Mapping[str, tuple[str, ...]]
    exclude: list[dict[str, tuple[str, ...]]]
    overrides: Mapping[str, Any]


class Setting(NamedTuple):
    """A tuned setting: changes `overrides` of the configuration of every row that has all the labels `when`."""

    when: Labels
    overrides: Mapping[str, Any]


class TableLayout(NamedTuple):
    """The layout of result tables: lines by the label of axis `lines`, columns by the labels of the axes `columns`.

    Each combination of labels of the remaining axes but the seed has its own table; a cell is a mean over seeds.
    """

    lines: str = "pair"
    columns: tuple[str, ...] = ("mode", "start")


@dataclass(frozen=True)
class Grid:
    """A parsed and checked grid file; create one with `Grid.read`."""

    path: Path
    folder: Path
    """The folder of the ledger, the tables and the pictures; by default that of the file."""
    run: str
    """The row function, as "module:callable"."""
    base: Mapping[str, Any]
    axes: Axes
    blocks: list[Block]
    tuned: list[Setting]
    compare: Mapping[str, Sequence[Sequence[str]]]
    """By axis, the couples of labels whose results are compared."""
    ranks: Mapping[str, Sequence[Sequence[str]]]
    """By axis, the groups of labels that are ranked over all settings."""
    layout: TableLayout

    def tuned_for(self, labels: Labels) -> list[Setting]:
        """Return the tuned settings for a row with these labels or, if there are none, with those of `tuned_as`."""
        asked = dict(labels)
        for axis, label in labels.items():
            asked |= self.axes[axis][label].tuned_as
        own, others = ([s for s in self.tuned if s.when.items() <= of.items()] for of in (labels, asked))
        return own or others

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read the YAML file `path` and the files that it names relative to its folder; GridError if one is wrong."""
        content, folder = yaml_files.read(path), path.parent
        for key in content:
            require_known(str(key), _KEYS, f"key of {path}")
        axes = {str(name): _axis(str(name), labels) for name, labels in _file_or(content.get("axes"), folder, "axes")}
        if not axes:
            raise GridError(f"{path} needs `axes:`, as in axes: {{seed: [0, 1, 2]}}")
        for label in (label for labels in axes.values() for label in labels.values()):
            for axis in label.tuned_as:  # whose labels may be of the tuning grid alone
                require_known(axis, axes, "axis in tuned_as")
        run = content.get("run", USUAL_RUN)
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
            compare=_groups(content, "compare", axes),
            ranks=_groups(content, "ranks", axes),
            layout=_layout(require_mapping(content.get("tables", {}), "tables"), axes),
        )


def require_known(name: str, known: Iterable[str], what: str) -> None:
    """Raise GridError if `name`, a `what` as "axis in blocks", is not in `known`; list close matches or else all."""
    names = list(known)
    if name not in names:
        near = get_close_matches(name, names, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(map(repr, near))}?" if near else f"there are {', '.join(names) or 'none'}"
        raise GridError(f"unknown {what} {name!r}: {hint}")


def require_mapping(value: Any, where: str) -> Mapping[Any, Any]:
    """Return `value` if it is a mapping; else GridError, which begins with `where`."""
    if not isinstance(value, Mapping):
        raise GridError(f"{where} must be a mapping, as {{name: value}}, got {value!r}")
    return value


def chosen_labels(chosen: Any, axes: Axes, where: str) -> dict[str, tuple[str, ...]]:
    """Return `chosen`, labels by axis, each one or a list, as tuples; GridError, naming `where`, if it is wrong."""
    result = {}
    for name, given in require_mapping(chosen, where).items():
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
    return {
        str(label): _label(changes, f"axes: {name}: {label}")
        for label, changes in require_mapping(labels, name).items()
    }


def _label(changes: Any, where: str) -> Label:
    overrides = dict(require_mapping(changes, where))
    after, checkpoint = overrides.pop("after", None), overrides.pop("checkpoint", None)
    tuned_as = _labels(overrides.pop("tuned_as", {}), f"{where}: tuned_as")
    if (after is None) != (checkpoint is None):
        raise GridError(f"{where}: `after` (labels of another row) and `checkpoint` (the key that takes its last "
                        "checkpoint) go together")  # fmt: skip
    return Label(overrides, None if after is None else _labels(after, f"{where}: after"), checkpoint, tuned_as)


def _block(block: Any, axes: Axes) -> Block:
    chosen = {str(name): value for name, value in require_mapping(block, "blocks").items()}
    exclude, overrides = chosen.pop("exclude", []), chosen.pop("set", {})
    for name in chosen:
        require_known(name, [*axes, *_OF_BLOCKS], "axis in blocks")
    selected = chosen_labels({name: value for name, value in chosen.items() if value is not None}, axes, "blocks")
    kept = [name for name in axes if name not in chosen or name in selected]
    return Block(
        axes={name: selected.get(name, tuple(axes[name])) for name in kept},
        exclude=[chosen_labels(excluded, axes, "exclude") for excluded in _list(exclude, "exclude")],
        overrides=require_mapping(overrides, "blocks: set"),
    )


def _tuned(path: Path, axes: Axes) -> list[Setting]:
    """Return the settings of a file; those with labels that no axis has are of other grids, and apply to no row."""
    settings = []
    for item in _list(yaml_files.read(path).get("settings"), f"{path}: settings"):
        content = require_mapping(item, f"{path}: settings")
        when = _labels(content.get("when"), f"{path}: when")
        for name in when:
            require_known(name, axes, f"axis in {path}")
        settings.append(Setting(when, require_mapping(content.get("set"), f"{path}: set")))
    return settings


def _groups(content: Mapping[str, Any], key: str, axes: Axes) -> dict[str, list[tuple[str, ...]]]:
    """Return the groups of different labels by axis under `key`: couples to compare, two or more labels to rank."""
    found = {}
    for axis, groups in require_mapping(content.get(key, {}), key).items():
        require_known(str(axis), axes, f"axis in {key}")
        for group in _list(groups, f"{key}: {axis}"):
            size = len(group) if isinstance(group, list) else 0
            if size < 2 or size > len(set(map(str, group))) or (key == "compare" and size > 2):
                what = "couple of labels" if key == "compare" else "list of different labels"
                raise GridError(f"{key}: {axis}: {group!r} is no {what}, as [bnn++, bnn+]")
            chosen_labels({axis: group}, axes, key)
        found[str(axis)] = [tuple(map(str, group)) for group in groups]
    return found


def _layout(content: Mapping[Any, Any], axes: Axes) -> TableLayout:
    for key in content:
        require_known(str(key), TableLayout._fields, "key of tables")
    layout = TableLayout(
        str(content.get("lines", TableLayout().lines)), tuple(_names(content.get("columns", TableLayout().columns)))
    )
    for axis in (layout.lines, *layout.columns) if content else ():
        require_known(axis, axes, "axis in tables")
    return layout


def _file_or(value: Any, folder: Path, where: str) -> Any:
    """Return the items of a mapping, or of a YAML file that holds it."""
    return (yaml_files.read(folder / value) if isinstance(value, str) else require_mapping(value, where)).items()


def _names(value: Any) -> list[str]:
    """Return one name or a list of names as a list."""
    return [str(name) for name in (value if isinstance(value, list | tuple) else [value])]


def _labels(content: Any, where: str) -> Labels:
    return {str(name): str(label) for name, label in require_mapping(content, where).items()}


def _list(value: Any, where: str) -> Sequence[Any]:
    if not isinstance(value, list):
        raise GridError(f"{where} must be a list, got {value!r}")
    return value
