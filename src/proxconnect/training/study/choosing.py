"""Of the trials of a tuning grid the best for each label, as settings that other grids take by `tuned:`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from proxconnect._support.atomic import replacing
from proxconnect.training.study import ledger
from proxconnect.training.study.grid import Grid, Labels
from proxconnect.training.study.ledger import Entry
from proxconnect.training.study.names import GridError, require_known
from proxconnect.training.study.overrides import overridden
from proxconnect.training.study.rows import Row, described
from proxconnect.training.study.statistics import Spread, setting_of
from proxconnect.training.study.study import Study

if TYPE_CHECKING:
    from rich.console import Console

Trials = Mapping[tuple[str, ...], list[tuple[Labels, Spread]]]
"""For each choice of labels of some axes its trials: the labels of the other axes, and what they gave."""


def choose(study: Study, axes: Sequence[str], figure: str, path: Path, console: "Console") -> dict[str, Any]:
    """Write the best settings for each label of `axes` into a YAML file, and return what is in it.

    GridError where a choice would not be fair.
    """
    entries = {entry.key: entry for entry in ledger.read(study.ledger)}
    found = trials(study.rows, entries, study.grid, axes, figure)
    content = write(found, study.grid, axes, figure, path)
    for key, ranked in found.items():
        labels, spread = ranked[0]
        words = f"{' '.join(key)}: {described(labels)}, the best of {len(ranked)}, {spread.mean:.4g}"
        console.print(words, markup=False, highlight=False)
    console.print(f"Wrote {path}", highlight=False)
    return content


def trials(rows: Sequence[Row], entries: Mapping[str, Entry], grid: Grid, axes: Sequence[str], figure: str) -> Trials:
    """The trials for each combination of labels of `axes`, the best first, by `figure`, the larger the better.

    They differ in the other axes, but the seed. An axis on which all rows have one label was not tried: it is left out.

    GridError where rows are not finished, or where one has other trials or more seeds than another: a choice is fair
    only where each had the same.
    """
    for axis in axes:
        require_known(axis, grid.axes, "axis in --choose")
    missing = [str(row) for row in rows if row.key not in entries]
    if missing:
        raise GridError(f"{len(missing)} of {len(rows)} rows are not finished, as {missing[0]!r}: run the grid first")
    same = [axis for axis in grid.axes if len({row.labels.get(axis) for row in rows}) == 1]
    if set(grid.axes) <= {"seed", *axes, *same}:
        raise GridError(f"the rows differ in nothing but {', '.join(axes)} and seeds: there is nothing to choose")
    values: dict[tuple[str, ...], dict[tuple[tuple[str, str], ...], list[float]]] = {}
    for row in rows:
        value = entries[row.key].figure(figure)
        if value is None:
            known = ", ".join(f"accuracy.{name}" for name in entries[row.key].measured["accuracy"])
            raise GridError(f"{row} has no number {figure!r}: choose by one of {known}, or by another that it measured")
        choice = values.setdefault(tuple(row.labels.get(axis, "") for axis in axes), {})
        choice.setdefault(tuple(setting_of(row.labels, *axes, *same).items()), []).append(value)
    _require_fair({key: {trial: len(v) for trial, v in found.items()} for key, found in values.items()})
    return {
        key: sorted(((dict(t), Spread.of(v)) for t, v in found.items()), key=lambda trial: -trial[1].mean)
        for key, found in values.items()
    }


def _require_fair(counts: Mapping[tuple[str, ...], Mapping[Any, int]]) -> None:
    (first, usual), *others = counts.items()
    for key, found in others:
        if sorted(found.values()) != sorted(usual.values()):
            raise GridError(
                f"{' '.join(key)} has {len(found)} trials of {sum(found.values())} rows, {' '.join(first)} "
                f"{len(usual)} of {sum(usual.values())}: give each the same number, or choose for each apart, "
                "with --only and -o"
            )


def write(found: Trials, grid: Grid, axes: Sequence[str], figure: str, path: Path) -> dict[str, Any]:
    """Write the best settings, and below them all trials, as YAML; what was written."""
    settings, tried = [], []
    for key, ranked in found.items():
        when = dict(zip(axes, key, strict=True))
        best, spread = ranked[0]
        settings.append({"when": when, "set": _overrides(grid, best), "trial": described(best), **_figures(spread)})
        tried += [when | {"trial": described(labels)} | _figures(spread) for labels, spread in ranked]
    count, seeds = len(next(iter(found.values()))), next(iter(found.values()))[0][1].count
    text = (
        f"# The best by {figure} of {count} trials for each, of {seeds} seed{'s' * (seeds > 1)}, as\n"
        f"# `proxconnect study {grid.path.name} --choose {' '.join(axes)} --by {figure}` wrote it.\n"
    )
    content = {"settings": settings, "trials": tried}
    with replacing(path) as temporary:
        temporary.write_text(text + yaml.safe_dump(content, sort_keys=False, width=120, allow_unicode=True), "utf-8")
    return content


def _overrides(grid: Grid, labels: Labels) -> dict[str, Any]:
    """What the labels of a trial change, together."""
    result: dict[str, Any] = {}
    for axis, label in labels.items():
        result = overridden(result, grid.axes[axis][label].overrides)
    return result


def _figures(spread: Spread) -> dict[str, Any]:
    return {"mean": round(spread.mean, 5), "sd": None if spread.sd is None else round(spread.sd, 5)}
