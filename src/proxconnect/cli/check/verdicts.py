"""The verdicts of `proxconnect check`, as text and as data for JSON."""

import shutil
import textwrap
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

import torch
from rich import box
from rich.console import RenderableType
from rich.constrain import Constrain
from rich.table import Table
from rich.text import Text

from proxconnect.cli.check.subject import Mended
from proxconnect.cli.parser import Exit
from proxconnect.theory.verdicts import presentation
from proxconnect.theory.verdicts.decomposition import TOLERANCE, Verdict

Key = TypeVar("Key")

_STYLES = {True: "green", False: "red", None: "yellow"}


def status(verdicts: Sequence[Verdict]) -> Exit:
    """Return the exit code of `check`.

    It is NO if a verdict is that the pair is not legitimate, or legitimate but not what it declares. Otherwise it is
    UNDECIDED if a verdict is undecided, else DONE.
    """
    if any(v.legitimate is False or (v.legitimate and v.declared is False) for v in verdicts):
        return Exit.NO
    return Exit.UNDECIDED if any(v.legitimate is None for v in verdicts) else Exit.DONE


def deciding(verdicts: Sequence[Verdict]) -> Verdict:
    """Return the worst verdict, the first one of several.

    From worst to best: not legitimate, legitimate but not what the pair declares, undecided, legitimate.
    """
    weights = {False: 0, None: 2, True: 3}
    return min(verdicts, key=lambda v: 1 if v.declared is False and v.legitimate else weights[v.legitimate])


def shown(
    verdicts: Sequence[Verdict], mended: Mended | str | None, picture: str | None, table: Sequence[Sequence[Verdict]]
) -> Iterator[RenderableType]:
    """Yield the results of `check` as rich text, readable without colour, at most 80 columns wide.

    Args:
        verdicts: the verdicts on the pair asked about, one per sharpness; empty if only the catalogue is shown.
        mended: the pair that mends it, or the reason why there is none; None if it needs no mending.
        picture: a sentence on the picture that was drawn, or None.
        table: the verdicts on each pair of the catalogue, one per sharpness; empty to show no catalogue.
    """
    width = min(shutil.get_terminal_size().columns, 80)
    if verdicts:
        answers = _grouped(verdicts, presentation.answer)
        whole = "; ".join(f"{answer}{f' at {_mus(of)}' if len(answers) > 1 else ''}" for answer, of in answers.items())
        style = f"bold {_STYLES[deciding(verdicts).legitimate]}"
        yield Text.assemble((verdicts[0].name, "bold"), ": ", (whole, style))
        said = {text: _mus(of) for text, of in _grouped(verdicts, _sentences).items()}
        longest = max(map(len, said.values()))
        for text, mus in said.items():
            yield Text(_filled(text, width, f"  {mus:<{longest}}  " if longest else "  "))
        low, high = verdicts[0].domain
        yield Text(f"Seen on [{low:g}, {high:g}] in float64, to {TOLERANCE:g} of the size of F and B.", style="dim")
    if isinstance(mended, str):
        yield Text(f"\n{_filled(f'It could not be mended: {mended}.', width)}", style="yellow")
    elif mended is not None:
        name = f"{mended.name} of the catalogue" if mended.in_catalogue else mended.name
        says = f"Mended: {name} keeps B and has F(x) = ∫₀ˣ B, so that P(x) = x and T = F."
        if mended.mu is not None:
            says += f" That is the B of μ = {mended.mu:g} alone; the sharpness of the new pair turns its F into F(μx)."
        yield f"\n{_filled(says, width)}"
        if mended.warning is not None:
            yield Text(_filled(f"Warning: {mended.warning}.", width), style="yellow")
        yield ""
        yield textwrap.indent(mended.code, "    ")
    if picture is not None:
        yield f"\n{picture}"
    if table:
        yield _table(table, verdicts[0].name if verdicts else "", width)


def _sentences(verdict: Verdict) -> str:
    """Return the reason, the place and the consequence."""
    where, consequence = presentation.place(verdict), presentation.consequence(verdict)
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
    """Wrap the text at `width`; its first line begins with `lead`, and the others are indented as far."""
    return textwrap.fill(text, width, initial_indent=lead, subsequent_indent=" " * len(lead))


def _table(catalogue: Sequence[Sequence[Verdict]], asked: str, width: int) -> RenderableType:
    """Make a table with a line for each pair and each answer on it."""
    title = "\nThe catalogue, and surrogates of the literature"
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("pair", "", "μ"):
        table.add_column(name, no_wrap=True)
    table.add_column("why")
    for verdicts in catalogue:
        said = _grouped(verdicts, lambda v: (presentation.answer(v), presentation.headline(v)))
        for (answer, headline), of in said.items():
            is_asked = of[0].name == asked
            table.add_row(
                Text(f"{'>' if is_asked else ' '} {of[0].name}", style="bold" if is_asked else ""),
                Text(answer, style=_STYLES[of[0].legitimate]), _mus(of).removeprefix("μ = "), Text(headline),
            )  # fmt: skip
    return Constrain(table, width)


def as_json(
    verdicts: Sequence[Verdict], mended: Mended | str | None = None, table: Sequence[Sequence[Verdict]] = ()
) -> dict[str, Any]:
    """Return the document that `check --json` prints.

    Args:
        verdicts: the verdicts on the pair asked about, one per sharpness. Each gets the values of F, B, P and r.
        mended: the pair that mends it, or the reason why there is none; None if it needs no mending.
        table: the verdicts on each pair of the catalogue, one per sharpness.
    """
    return {
        "status": status(verdicts),
        "verdicts": [_record(verdict) | {"curves": _curves(verdict)} for verdict in verdicts],
        "mended": None if isinstance(mended, str) else mended,
        "unmended": mended if isinstance(mended, str) else None,
        "catalogue": [_record(verdict) for several in table for verdict in several],
    }


def _record(verdict: Verdict) -> dict[str, Any]:
    names = ("mu", "legitimate", "declared", "by_convention", "reason", "interval", "domain")
    return {"pair": verdict.name, **{name: getattr(verdict, name) for name in names}}


def _curves(verdict: Verdict) -> dict[str, list[float]]:
    """Compute F, B, P and r(P) at points x around 0."""
    low, high = max(-4.0, verdict.domain[0]), min(4.0, verdict.domain[1])
    x = torch.linspace(low, high, 65, dtype=torch.float64)
    curves = {"x": x, "F": verdict.forward(x), "B": verdict.backward(x)}
    if verdict.prox is not None and verdict.regularizer is not None:
        curves["P"] = verdict.prox(x)
        curves["r"] = verdict.regularizer(curves["P"])
    return {name: values.tolist() for name, values in curves.items()}
