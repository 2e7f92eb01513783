"""`proxconnect check`: is a forward-backward pair legitimate, why, and what corrects it?"""

import argparse
import shutil
import textwrap
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from typing import Any, TypeVar

import torch
from rich import box
from rich.console import RenderableType
from rich.constrain import Constrain
from rich.table import Table
from rich.text import Text

from proxconnect._support import extras
from proxconnect._support.user_code import importable_folder
from proxconnect.cli.answer import JSON_HELP, Answer, print_answer
from proxconnect.cli.parser import Exit, Parser, epilog, number, picture
from proxconnect.cli.subject import Correction, corrected, named, subject
from proxconnect.inspection import plots
from proxconnect.pairs import PAIRS, SURROGATES
from proxconnect.theory import plot_verdict
from proxconnect.theory.verdicts import presentation
from proxconnect.theory.verdicts.decomposition import DOMAIN, TOLERANCE, Verdict

Key = TypeVar("Key")

_ABOUT = """
PAIR is a name of the catalogue or of a surrogate (--all lists them), words as
"clip of gap(1, 1)" (a transform T of a prox map P), or code of yours,
MODULE:NAME, imported as `python -m` does, from the current folder too:
  a Pair or a Heuristic; a torch.autograd.Function, or a function F of a tensor,
  whose B is then autograd's; F and B, as MODULE:F MODULE:B.
"""
_EXAMPLES = """
proxconnect check bnn+
proxconnect check pc --mu 1 2 50 --plot pc.png
proxconnect check my_module:my_pair --json
proxconnect check my_module:my_forward my_module:my_backward
proxconnect check --backward my_module:my_surrogate
proxconnect check torch.nn.functional:hardtanh
proxconnect check --all
"""
_EXITS = {
    Exit.DONE: "legitimate at every μ asked (or --all alone)",
    Exit.NO: "not legitimate at some, or legitimate but not as a Pair declares it",
    Exit.UNDECIDED: "could not decide",
}
_STYLES = {True: "green", False: "red", None: "magenta"}


def add_to(commands: "argparse._SubParsersAction[Parser]") -> None:
    """Add `check` to the subcommands of the parser."""
    command = commands.add_parser(
        "check",
        help="is a forward-backward pair legitimate, why, and what corrects it?",
        description="Check whether (F, B) = (T∘P, T'∘P) for a transform T and a proximal quantiser P,\n"
        "which gives it ProxConnect's convergence theory. If not, make a legitimate pair\nthat keeps B.",
        epilog=epilog(_EXAMPLES, _EXITS, _ABOUT),
    )
    add = command.add_argument
    add("pair", nargs="*", metavar="PAIR", help="the pair to check, or its F and B")
    add("--backward", metavar="MODULE:NAME", help="check B alone, with F = sign")
    add("--mu", nargs="+", type=number, metavar="M", help="sharpness; default: 1 2 5, or those from the lowest on")
    add("--domain", nargs=2, type=number, metavar=("LOW", "HIGH"), help="lowest and highest x; default: -1000 1000")
    add("--all", action="store_true", help="also print a table of the catalogue; PAIR may be left out")
    add("--plot", type=picture, metavar="FILE", help="draw the deciding verdict as .png or .svg")
    add("--json", action="store_true", help=JSON_HELP)
    command.set_defaults(run=lambda parsed: print_answer(parsed, _check))


def _check(parsed: argparse.Namespace) -> Answer:
    names_pair = bool(parsed.pair or parsed.backward)
    if not (names_pair or parsed.all):
        raise ValueError("name a pair to check, or give --all (see proxconnect check --help)")
    if parsed.plot and not names_pair:
        raise ValueError("--plot draws a verdict: name the pair")
    if parsed.plot:
        extras.require("matplotlib.figure", "plots")
    domain = DOMAIN if parsed.domain is None else (parsed.domain[0], parsed.domain[1])
    verdicts: list[Verdict] = []
    correction: Correction | str | None = None
    picture = None
    is_user_code = parsed.backward or any(":" in name for name in parsed.pair)
    with importable_folder() if is_user_code else nullcontext():
        if names_pair:
            asked = subject(parsed.pair, parsed.backward)
            verdicts = [asked.verdict(mu, domain) for mu in asked.mus(parsed.mu or ())]
            worst = deciding(verdicts)
            try:
                correction = corrected(asked, worst.mu) if worst.legitimate is False else None
            except ValueError as error:
                correction = str(error)
            if parsed.plot:
                plots.save(plot_verdict(worst), parsed.plot)
                at = "" if worst.mu is None else f" at μ = {worst.mu:g}"
                picture = f"{parsed.plot} shows {worst.name}{at}."
        table = []
        for pair in map(named, (*PAIRS, *SURROGATES) if parsed.all else ()):
            allowed = [mu for mu in parsed.mu or () if pair.sharpness is None or pair.sharpness.contains(mu)]
            table.append([pair.verdict(mu, domain) for mu in pair.mus(allowed)])
        data = as_json(verdicts, correction, table) if parsed.json else None  # calls their code
    return Answer(data, shown(verdicts, correction, picture, table), status(verdicts))


def status(verdicts: Sequence[Verdict]) -> Exit:
    """Return NO if a verdict is illegitimate or legitimate but not as declared, UNDECIDED if one is so, else DONE."""
    if any(v.legitimate is False or (v.legitimate and v.declared is False) for v in verdicts):
        return Exit.NO
    return Exit.UNDECIDED if any(v.legitimate is None for v in verdicts) else Exit.DONE


def deciding(verdicts: Sequence[Verdict]) -> Verdict:
    """Return the first worst verdict; from worst to best: illegitimate, not as declared, undecided, legitimate."""
    weights = {False: 0, None: 2, True: 3}
    return min(verdicts, key=lambda v: 1 if v.declared is False and v.legitimate else weights[v.legitimate])


def shown(
    verdicts: Sequence[Verdict],
    correction: Correction | str | None,
    picture: str | None,
    table: Sequence[Sequence[Verdict]],
) -> Iterator[RenderableType]:
    """Yield the results of `check` as rich text, readable without colour, with prose wrapped at 80 columns or less.

    `verdicts` has one per sharpness for the pair asked about, and `table` those for each pair of the catalogue and each
    surrogate; both may be empty. `correction` is a legitimate pair with the same B, or the reason why there is none, or
    None unless the pair asked about is illegitimate. `picture` is a sentence on the picture that was drawn, if one was.
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
        yield Text(f"Seen on [{low:g}, {high:g}] in float64, to {TOLERANCE:g} of the size of F and B.")
    if isinstance(correction, str):
        yield Text(f"\n{_filled(f'It could not be corrected: {correction}.', width)}", style="magenta")
    elif correction is not None:
        name = f"{correction.name} of the catalogue" if correction.in_catalogue else correction.name
        kept = "B up to a constant factor, by which F ends at ±1," if correction.normalised else "B"
        says = f"Correction: {name} keeps {kept} and has F(x) = ∫₀ˣ B, so that P(x) = x and T = F."
        if correction.mu is not None:
            says += (
                f" That is the B of μ = {correction.mu:g} alone; the sharpness of the new pair turns its F into F(μx)."
            )
        yield f"\n{_filled(says, width)}"
        if correction.warning is not None:
            yield Text(_filled(f"Warning: {correction.warning}.", width), style="magenta")
        yield ""
        yield textwrap.indent(correction.code, "    ")
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
    for name in ("pair", "verdict", "μ"):
        table.add_column(name, no_wrap=True)
    table.add_column("why")
    for verdicts in catalogue:
        for (answer, headline), of in _grouped(
            verdicts, lambda v: (presentation.answer(v), presentation.headline(v))
        ).items():
            is_asked = of[0].name == asked
            table.add_row(
                Text(f"{'>' if is_asked else ' '} {of[0].name}", style="bold" if is_asked else ""),
                Text(answer, style=_STYLES[of[0].legitimate]), _mus(of).removeprefix("μ = "), Text(headline),
            )  # fmt: skip
    return Constrain(table, width)


def as_json(
    verdicts: Sequence[Verdict], correction: Correction | str | None = None, table: Sequence[Sequence[Verdict]] = ()
) -> dict[str, Any]:
    """Return the document that `check --json` prints, for arguments as in `shown`; this calls F, B, P and r."""
    return {
        "status": status(verdicts),
        "verdicts": [_record(verdict) | {"curves": _curves(verdict)} for verdict in verdicts],
        "correction": None if isinstance(correction, str) else correction,
        "uncorrected": correction if isinstance(correction, str) else None,
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
