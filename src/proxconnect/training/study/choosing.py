"""Choose the best settings of a grid of trials, for the grids that are tuned by them."""

import math
from collections.abc import Mapping, Sequence
from functools import reduce
from pathlib import Path
from typing import Any

import yaml
from pandas import DataFrame
from rich.console import Console

from proxconnect._support.atomic import replacing
from proxconnect.training.study import ledger
from proxconnect.training.study.grid import Grid, require_known
from proxconnect.training.study.ledger import Entry
from proxconnect.training.study.rows import Configuration, StudyRow, described, overridden
from proxconnect.training.study.study import Study
from proxconnect.training.study.tables import settings, spreads
from proxconnect.training.study.yaml_files import GridError

Trials = Mapping[tuple[str, ...], DataFrame]
"""For each combination of labels of some axes the `spreads` of its trials, the best first."""


def choose(study: Study, axes: Sequence[str], figure: str, path: Path, console: Console) -> dict[str, Any]:
    """Choose the best of the `trials` of each combination of labels of `axes`, print it, and write it to `path`.

    Return the content of the file, as `write_best` does. GridError as in `trials`.
    """
    entries = {entry.key: entry for entry in ledger.read(study.ledger)}
    found = trials(study.rows, entries, study.grid, axes, figure)
    content = write_best(found, study.grid, axes, figure, path)
    for (key, ranked), best in zip(found.items(), content["settings"], strict=True):
        words = f"{' '.join(key)}: {best['trial']}, the best of {len(ranked)}, {ranked['mean'].iloc[0]:.4g}"
        console.print(words, markup=False, highlight=False)
    console.print(f"Wrote {path}", highlight=False)
    return content


def trials(
    rows: Sequence[StudyRow], entries: Mapping[str, Entry], grid: Grid, axes: Sequence[str], figure: str
) -> Trials:
    """Return the trials of each combination of labels of `axes`, with the largest mean over seeds of `figure` first.

    A trial is a combination of labels of the other axes, except the seed. `entries` are by address. GridError if an
    axis is unknown or the seed, if a row is not in `entries` or lacks the number, if there is nothing to choose, or if
    the combinations have different numbers of trials or of seeds.
    """
    for axis in axes:
        require_known(axis, grid.axes, "axis in --choose")
    if "seed" in axes:
        raise GridError("--choose averages over seeds: name other axes")
    if not rows:
        raise GridError("no row has these labels: there is nothing to choose")
    missing = [str(row) for row in rows if row.key not in entries]
    if missing:
        raise GridError(f"{len(missing)} of {len(rows)} rows are not finished, as {missing[0]!r}: run the grid first")
    same = [axis for axis in grid.axes if len({row.labels.get(axis) for row in rows}) == 1]
    if set(grid.axes) <= {"seed", *axes, *same}:
        raise GridError(f"the rows differ in nothing but {', '.join(axes)} and seeds: there is nothing to choose")
    tried = dict.fromkeys([*axes, *(axis for axis in grid.axes if axis != "seed" and axis not in same)])
    numbers = [entries[row.key].figure(figure) for row in rows]
    if None in numbers:
        row = rows[numbers.index(None)]
        known = ", ".join(f"accuracy.{name}" for name in entries[row.key].measured["accuracy"])
        raise GridError(f"{row} has no number {figure!r}: choose by one of {known}, or by another that it measured")
    table = DataFrame([{axis: row.labels.get(axis, "") for axis in tried} for row in rows]).assign(mean=numbers)
    found = dict(iter(spreads(table, "mean").groupby([*axes], sort=False)))
    (first, usual), *others = ((key, sorted(ranked["seeds"].tolist())) for key, ranked in found.items())
    for key, seeds in others:
        if seeds != usual:
            raise GridError(
                f"{' '.join(key)} has {len(seeds)} trials of {sum(seeds)} rows, {' '.join(first)} "
                f"{len(usual)} of {sum(usual)}: give each the same number, or choose for each apart, "
                "with --only and -o"
            )
    return {
        key: ranked.drop(columns=[*axes]).sort_values("mean", ascending=False, kind="stable")
        for key, ranked in found.items()
    }


def write_best(found: Trials, grid: Grid, axes: Sequence[str], figure: str, path: Path) -> dict[str, Any]:
    """Write the best trial of each combination and all trials to the YAML file `path`, and return its content.

    A grid reads the best, "settings", by its key `tuned`: dicts of when (the labels of `axes`), set (the changes of the
    configuration), trial (its labels in words), mean and sd.
    """
    best, tried = [], []
    for key, ranked in found.items():
        when, labels = dict(zip(axes, key, strict=True)), settings(ranked)
        numbers = [{"mean": round(mean, 5), "sd": None if math.isnan(sd) else round(sd, 5)}
                   for mean, sd in zip(ranked["mean"].tolist(), ranked["sd"].tolist(), strict=True)]  # fmt: skip
        changes = (grid.axes[axis][label].overrides for axis, label in labels[0].items())
        together = reduce(overridden, changes, Configuration())
        best.append({"when": when, "set": together, "trial": described(labels[0])} | numbers[0])
        tried += [when | {"trial": described(of)} | n for of, n in zip(labels, numbers, strict=True)]
    count, seeds = len(ranked), int(ranked["seeds"].iloc[0])
    text = (
        f"# The best by {figure} of {count} trials for each, of {seeds} seed{'s' * (seeds > 1)}, as\n"
        f"# `proxconnect study {grid.path.name} --choose {' '.join(axes)} --by {figure}` wrote it.\n"
    )
    content = {"settings": best, "trials": tried}
    with replacing(path) as temporary:
        temporary.write_text(text + yaml.safe_dump(content, sort_keys=False, width=120, allow_unicode=True), "utf-8")
    return content
