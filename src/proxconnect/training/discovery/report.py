"""What a search found: a table of all candidates, tables of the last round, pictures, and the grid that confirms it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pandas import DataFrame
from rich.console import Console

from proxconnect._support.atomic import replacing
from proxconnect.inspection import plots
from proxconnect.training.discovery.discover import Discovery, Standing
from proxconnect.training.discovery.pictures import draw_landscape, draw_winners
from proxconnect.training.discovery.search import Search
from proxconnect.training.study import results
from proxconnect.training.study.grid import Grid, Label, TableLayout
from proxconnect.training.study.rows import overridden
from proxconnect.training.study.tables import Table


def write(discovery: Discovery, console: Console) -> list[Path]:
    """Print the winners, and write candidates.csv, tables and pictures of the last round and confirmation.yaml."""
    search, folder, winners = discovery.search, discovery.folder, discovery.winners()
    show(winners, search, console)
    paths = [folder / "candidates.csv"]
    with replacing(paths[0]) as temporary:
        text: str = table(discovery).to_csv(index=False, lineterminator="\n")
        temporary.write_text(text, encoding="utf-8")
    last = len(search.rounds)
    paths += results.write(discovery.entries(last), _grid_of(discovery, last), folder)
    figures = {f"landscape-{'-'.join(name.split())}": draw_landscape(ranked)
               for name, ranked in discovery.standings.items()}  # fmt: skip
    figures["winners"] = draw_winners([(str(s.candidate), configuration(s, search)) for s in winners])
    for name, figure in figures.items():
        if figure is not None:
            paths.append(folder / "figures" / f"{name}.png")
            paths[-1].parent.mkdir(exist_ok=True)
            plots.save(figure, paths[-1])
    if search.confirm is not None:
        paths.append(folder / "confirmation.yaml")
        with replacing(paths[-1]) as temporary:
            temporary.write_text(confirmation(discovery), encoding="utf-8")
        console.print(f"Confirm it: proxconnect study {paths[-1]}", highlight=False, soft_wrap=True)
    return paths


def show(winners: list[Standing], search: Search, console: Console) -> None:
    """Print the best candidate of each space: its accuracies, its verdict and its values."""
    heads = ("space", *(f"{name} %".strip() for name in search.settings), "pairs")
    lines = tuple((s.candidate.space.name, *(f"{100 * a:.2f}" for a in s.rounds[-1].values()), s.verdict)
                  for s in winners)  # fmt: skip
    console.print("The best of each space in the last round", style="bold")
    console.print(results.on_terminal(Table("", heads, lines)), highlight=False)
    for standing in winners:
        console.print(f"{standing.candidate}: {in_words(standing)}", markup=False, highlight=False)


def in_words(standing: Standing) -> str:
    """Return the values of a candidate, as "gap 0.31, end 25"."""
    return ", ".join(f"{name} {value}" for name, value in standing.candidate.values.items())


def table(discovery: Discovery) -> DataFrame:
    """Return a data frame with a line for each candidate: its space, number, values, verdict, round and results."""
    return DataFrame([
        {"space": s.candidate.space.name, "number": s.candidate.number, "values": in_words(s), "verdict": s.verdict,
         "round": len(s.rounds), "rank": s.rank}
        | {f"accuracy {setting}".strip(): share for setting, share in (s.rounds[-1] if s.rounds else {}).items()}
        for ranked in discovery.standings.values() for s in ranked
    ])  # fmt: skip


def record(standing: Standing) -> dict[str, Any]:
    """Return a winner as `discover --json` prints it."""
    found = standing.candidate
    return {
        "space": found.space.name, "candidate": found.number, "values": found.values, "verdict": standing.verdict,
        "accuracies": standing.rounds[-1], "rank": standing.rank,
    }  # fmt: skip


def configuration(standing: Standing, search: Search) -> dict[str, Any]:
    """Return the configuration of a candidate in the first setting and the last round."""
    changes = search.rounds[-1].overrides
    return search.configuration(standing.candidate, next(iter(search.settings)), changes, search.rounds[-1].seeds[0])


def confirmation(discovery: Discovery) -> str:
    """Return the text of a grid that trains the winners with fresh seeds, and compares the first with the others."""
    search, winners = discovery.search, discovery.winners()
    assert search.confirm is not None
    names = [s.candidate.space.name for s in winners]
    settings: Mapping[str, Any] = {name or "all": dict(changes) for name, changes in search.settings.items()}
    content: dict[str, Any] = {
        "base": overridden(dict(search.base), search.confirm.overrides),
        "axes": {
            "seed": [*search.confirm.seeds], "setting": settings,
            "space": {s.candidate.space.name: s.candidate.space.changes(s.candidate.values) for s in winners},
        },
        "folder": "confirmation", "run": search.run,
        "tables": {"lines": "space", "columns": ["setting"]},
    }  # fmt: skip
    if len(names) > 1:
        content["compare"] = {"space": [[names[0], other] for other in names[1:]]}
        content["ranks"] = {"space": [names]}
    text = yaml.safe_dump(content, sort_keys=False, width=120, allow_unicode=True)
    return f"# The winners of {search.path.name} again, with other seeds, as `proxconnect discover` wrote it.\n{text}"


def _grid_of(discovery: Discovery, number: int) -> Grid:
    """Return a grid whose axes are those of the rows of round `number`, to make tables of its entries."""
    names = [str(s.candidate) for s in discovery.winners()]
    labels = {str(s.candidate): Label({}) for ranked in discovery.standings.values() for s in ranked}
    axes = {
        "round": {f"round {number}": Label({})}, "candidate": labels,
        "setting": {name: Label({}) for name in discovery.search.settings},
        "seed": {str(seed): Label({}) for seed in discovery.search.rounds[number - 1].seeds},
    }  # fmt: skip
    compare = {"candidate": [(names[0], other) for other in names[1:]]}
    return Grid(discovery.search.path, discovery.folder, discovery.search.run, {}, axes, [], [], compare, {},
                TableLayout("candidate", ("setting",)))  # fmt: skip
