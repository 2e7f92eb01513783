"""The answer of `proxconnect check`, for people and for programs."""

import textwrap
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import torch

from proxconnect._support.json_numbers import finite
from proxconnect.cli.exits import Exit
from proxconnect.cli.mending import Mended
from proxconnect.theory.verdicts import words
from proxconnect.theory.verdicts.verdict import TOLERANCE, Verdict

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.text import Text

Key = TypeVar("Key")

_STYLES = {True: "green", False: "red", None: "yellow"}


@dataclass(frozen=True)
class Report:
    """Everything that one call found."""

    verdicts: Sequence[Verdict]
    """Of what was asked about, one a μ."""
    mended: Mended | str | None
    """The correction of an illegitimate pair, or why there is none."""
    catalogue: Sequence[Sequence[Verdict]]
    """Of each pair of the catalogue, one a μ."""
    picture: str | None
    """Which verdict was drawn, and where."""

    @property
    def status(self) -> Exit:
        """DONE legitimate at every μ, NO not at some or not as declared, UNDECIDED; DONE where nothing was asked."""
        if any(v.legitimate is False or (v.legitimate and v.declared is False) for v in self.verdicts):
            return Exit.NO
        return Exit.UNDECIDED if any(v.legitimate is None for v in self.verdicts) else Exit.DONE


def deciding(verdicts: Sequence[Verdict]) -> Verdict:
    """The first that is not legitimate, else not as declared, else undecided, else the first."""
    weights = {False: 0, None: 2, True: 3}
    return min(verdicts, key=lambda v: 1 if v.declared is False and v.legitimate else weights[v.legitimate])


def show(report: Report, console: "Console") -> None:
    """Print the report, readable without colour."""
    from rich.text import Text

    if report.verdicts:
        console.print(_heading(report.verdicts))
        for lead, text in _paragraphs(report.verdicts):
            console.print(Text(_filled(text, console.width, lead)))
        low, high = report.verdicts[0].domain
        note = f"Seen on [{low:g}, {high:g}] in float64, to {TOLERANCE:g} of the size of F and B."
        console.print(Text(note, style="dim"))
    if isinstance(report.mended, str):
        says = _filled(f"It could not be mended: {report.mended}.", console.width)
        console.print(Text(f"\n{says}", style="yellow"))
    elif report.mended is not None:
        _show_mended(report.mended, console)
    if report.picture is not None:
        console.print(Text(f"\n{report.picture}"))
    if report.catalogue:
        console.print(_table(report.catalogue, report.verdicts[0].name if report.verdicts else ""))


def _heading(verdicts: Sequence[Verdict]) -> "Text":
    from rich.text import Text

    answers = _grouped(verdicts, words.answer)
    whole = "; ".join(f"{answer}{f' at {_mus(of)}' if len(answers) > 1 else ''}" for answer, of in answers.items())
    return Text.assemble((verdicts[0].name, "bold"), ": ", (whole, f"bold {_STYLES[deciding(verdicts).legitimate]}"))


def _paragraphs(verdicts: Sequence[Verdict]) -> list[tuple[str, str]]:
    """Each thing to say, with the μ at which it holds before it."""
    said = {text: _mus(of) for text, of in _grouped(verdicts, _sentences).items()}
    width = max(map(len, said.values()))
    return [(f"  {mus:<{width}}  " if width else "  ", text) for text, mus in said.items()]


def _sentences(verdict: Verdict) -> str:
    """The reason, the place and what follows."""
    where, consequence = words.place(verdict), words.consequence(verdict)
    return f"{verdict.reason}{f' ({where})' if where else ''}.{f' {consequence}.' if consequence else ''}"


def _grouped(verdicts: Iterable[Verdict], key: Callable[[Verdict], Key]) -> dict[Key, list[Verdict]]:
    groups: dict[Key, list[Verdict]] = {}
    for verdict in verdicts:
        groups.setdefault(key(verdict), []).append(verdict)
    return groups


def _mus(verdicts: Iterable[Verdict]) -> str:
    values = ", ".join(f"{v.mu:g}" for v in verdicts if v.mu is not None)
    return f"μ = {values}" if values else ""


def _filled(text: str, width: int, lead: str = "") -> str:
    """The text in lines of at most `width`, after `lead`, under which the others begin."""
    return textwrap.fill(text, width, initial_indent=lead, subsequent_indent=" " * len(lead))


def _show_mended(mended: Mended, console: "Console") -> None:
    from rich.text import Text

    name = f"{mended.name} of the catalogue" if mended.twin else mended.name
    says = f"Mended: {name} keeps B and has F(x) = ∫₀ˣ B, so that P(x) = x and T = F."
    if mended.mu is not None:
        says += f" That is the B of μ = {mended.mu:g} alone; the sharpness of the new pair turns its F into F(μx)."
    console.print(Text(f"\n{_filled(says, console.width)}"))
    if mended.warning is not None:
        console.print(Text(_filled(f"Warning: {mended.warning}.", console.width), style="yellow"))
    console.print()
    # Lines of code are never broken, so that they can be pasted.
    console.print(Text(textwrap.indent(mended.code, "    ")), soft_wrap=True)


def _table(catalogue: Sequence[Sequence[Verdict]], asked: str) -> "RenderableType":
    """A line for each pair and each answer of it."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    title = "\nThe catalogue, and surrogates of the literature"
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("pair", "", "μ"):
        table.add_column(name, no_wrap=True)
    table.add_column("why")
    for verdicts in catalogue:
        for (answer, headline), of in _grouped(verdicts, lambda v: (words.answer(v), words.headline(v))).items():
            is_asked = of[0].name == asked
            table.add_row(
                Text(f"{'>' if is_asked else ' '} {of[0].name}", style="bold" if is_asked else ""),
                Text(answer, style=_STYLES[of[0].legitimate]), _mus(of).removeprefix("μ = "), Text(headline),
            )  # fmt: skip
    return table


def as_json(report: Report) -> dict[str, Any]:
    """The report as plain data: every number finite or None."""
    mended = report.mended
    return {
        "status": report.status,
        "verdicts": [_record(verdict) | {"curves": _curves(verdict)} for verdict in report.verdicts],
        "mended": {
            "name": mended.name,
            "mu": mended.mu,
            "in_catalogue": mended.twin,
            "warning": mended.warning,
            "code": mended.code,
        } if isinstance(mended, Mended) else None,
        "unmended": mended if isinstance(mended, str) else None,
        "catalogue": [_record(verdict) for verdicts in report.catalogue for verdict in verdicts],
    }  # fmt: skip


def _record(verdict: Verdict) -> dict[str, Any]:
    return {
        "pair": verdict.name,
        "mu": verdict.mu,
        "legitimate": verdict.legitimate,
        "declared": verdict.declared,
        "by_convention": verdict.by_convention,
        "reason": verdict.reason,
        "interval": None if verdict.interval is None else list(verdict.interval),
        "domain": list(verdict.domain),
    }


def _curves(verdict: Verdict) -> dict[str, list[float | None]]:
    """F, B, P and r(P) at points x around 0."""
    low, high = max(-4.0, verdict.domain[0]), min(4.0, verdict.domain[1])
    x = torch.linspace(low, high, 65, dtype=torch.float64)
    curves = {"x": x, "F": verdict.forward(x), "B": verdict.backward(x)}
    if verdict.prox is not None and verdict.regularizer is not None:
        curves["P"] = verdict.prox(x)
        curves["r"] = verdict.regularizer(curves["P"])
    return {name: [finite(value) for value in values.tolist()] for name, values in curves.items()}
