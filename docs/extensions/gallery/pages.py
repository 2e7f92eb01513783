"""The pages of the gallery, in Markdown: one for each pair of the catalogue, and the cards that lead there."""

import inspect
from collections.abc import Iterable, Sequence

from extensions.gallery import accuracies
from extensions.gallery.formulas import clauses, prose, tex
from extensions.gallery.names import link, page_of
from extensions.gallery.verdicts import corrected_by, correction, is_legitimate, verdicts
from proxconnect.pairs import PAIRS, AnyPair, Pair
from proxconnect.theory import Verdict
from proxconnect.theory.verdicts import presentation
from proxconnect.training.study.tables import markdown

FENCE = "`" * 3


def page(name: str) -> str:
    """The page of a pair."""
    pair = PAIRS[name]
    title, shown, conditions, rest = _read(pair)
    parts = [
        f"# {name}\n\n{_badge(name)} {title}.\n",
        _use(name),
        "## F and B\n",
        *map(_display, shown),
        *([f"{prose(', '.join(conditions))}.\n"] if conditions else []),
        f"{rest}\n",
        _picture(name, "curves", f"F and B of {name}, from soft to sharp"),
        *(_problem(pair) if isinstance(pair, Pair) else []),
        "## Verdict\n",
        _verdict(name),
        _picture(name, "verdict", f"What decides: F and B of {name}, and P, T and r where they exist"),
        f"The same, and more, in a terminal:\n\n{FENCE}sh\nproxconnect check {name}\n{FENCE}\n",
        f"## Sharpness\n\n{_sharpness(pair)}\n",
        "## Accuracies\n",
        *_accuracies(name),
    ]
    return "\n".join(parts)


def _read(pair: AnyPair) -> tuple[str, list[str], list[str], str]:
    """What the pair is called, the formulas of F and B, what else its first sentence says, and all others."""
    first, *others = inspect.cleandoc(pair.doc or type(pair).__doc__ or "").split("\n\n")
    said = clauses(" ".join(first.split()))
    shown = [clause for clause in said if clause.startswith(("F(", "B(", "B ="))]
    before = said.index(shown[0]) if shown else len(said)
    conditions = [clause for clause in said[before:] if clause not in shown]
    return ", ".join(said[:before]), shown, conditions, prose("\n\n".join(others))


def _badge(name: str) -> str:
    return "{bdg-success}`legitimate`" if is_legitimate(name) else "{bdg-secondary}`heuristic`"


def _use(name: str) -> str:
    return f"""{FENCE}python
import torch
import proxconnect as pc

model = torch.nn.Sequential(*(torch.nn.Linear(4, 4) for _ in range(3)))
pc.binarize(model, weights="{name}")
{FENCE}
"""


def _display(formula: str) -> str:
    return f"$$\n{tex(formula)}\n$$\n"


def _picture(name: str, what: str, description: str) -> str:
    return f":::{{div}} picture\n![{description}]({page_of(name)}-{what}.svg)\n:::\n"


def _problem(pair: Pair) -> Iterable[str]:
    """P as the minimum that its docstring says, then r and T."""
    yield "## The prox problem\n"
    first, _, _ = inspect.cleandoc(type(pair.prox).__doc__ or "").partition("\n\n")
    minimum = clauses(" ".join(first.split()))[0]
    if "argmin" in minimum:
        yield _display(minimum)
    regulariser = (type(pair.prox).regularizer.__doc__ or "").removeprefix("Return ")
    yield f"The regulariser: {prose(regulariser)}\n"
    yield f"The transform: {prose(type(pair.transform).__doc__ or '')}\n"


def _verdict(name: str) -> str:
    """The answers and why; the correction of a heuristic, or whose correction this is."""
    text = _answers(verdicts(name))
    found, corrected = correction(name), corrected_by(name)
    if found and found.in_catalogue:
        (forward, *_) = _read(PAIRS[found.name])[1]
        text += f"\nThe correction is {link(found.name)}, which keeps B and takes its integral for F:\n\n"
        text += _display(forward)
    elif found:
        text += f"\nThe correction keeps B:\n\n{FENCE}python\n{found.code}\n{FENCE}\n"
    if corrected:
        text += f"\nIt corrects {' and '.join(map(link, corrected))}: it has the same B, and for F the integral of B.\n"
    return text


def _answers(found: Sequence[Verdict]) -> str:
    """The verdicts at each μ and what follows from them; once where it is the same at all."""
    whys = [_why(verdict) for verdict in found]
    follows = [prose(presentation.consequence(verdict)) for verdict in found]
    mus = ["" if verdict.mu is None else f"{verdict.mu:g}" for verdict in found]
    if len({*zip(whys, follows, strict=True)}) == 1:
        at = f" It is so at μ = {', '.join(mus[:-1])} and {mus[-1]}." if len(mus) > 1 else ""
        return f"{whys[0]}{f' {follows[0]}.' if follows[0] else ''}{at}\n"
    if len({*whys}) == 1:
        return f"{whys[0]}\n\n" + "".join(f"- μ = {mu}: {line}.\n" for mu, line in zip(mus, follows, strict=True))
    return "".join(f"- μ = {mu}: {line}\n" for mu, line in zip(mus, whys, strict=True))


def _why(verdict: Verdict) -> str:
    """The answer in words, why, and where it is decided."""
    where = f", {place}" if (place := presentation.place(verdict)) else ""
    answer = presentation.answer(verdict)
    return prose(f"{answer[0].upper()}{answer[1:]}: {verdict.reason}{where}.")


def _sharpness(pair: AnyPair) -> str:
    if pair.sharpness is None:
        return "The pair does not depend on μ, so a schedule has no effect."
    usual = pair.sharpness
    domain = f"$\\mu \\geq {usual.lowest:g}$" if usual.lowest else "$\\mu > 0$"
    units = "These values are for a layer with a scale."
    moved = f"takes μ from {usual.start:g} to {usual.end:g}"
    if usual.fixed is None:
        return f"{domain}. By default, `pc.Sharpening` {moved}. {units}"
    return (
        f"{domain}. By default, μ stays at {usual.fixed:g}, also with `pc.Sharpening`. "
        f"`pc.Sharpening(..., start={usual.start:g}, end={usual.end:g})` {moved}. {units}"
    )


LEGEND = (
    "BW: binary weights. BWA: binary weights and inputs; the inputs have bnn+ at μ = 2. BWAA: BWA with sums in 8 bits "
    "that wrap. E2E: trained from scratch. FT: fine-tuned from the float network. PC++: the update rule ProxConnect++. "
    "Accuracies are means and standard deviations over seeds, intervals of the mean are by Student's t, and *less "
    "float* is the difference from the float network of the same seed."
)


def _accuracies(name: str) -> Iterable[str]:
    table, study = accuracies.table(name), "[study on Fashion-MNIST](../../study.md)"
    if table is None:
        yield f"The {study} has no run of it.\n"
        return
    yield f"From the ledger of the {study}, which says what was run and what it does not show.\n"
    yield markdown(table)
    yield f"{LEGEND}\n"
    if (label := accuracies.label(name)) != name:
        yield f"In all these runs μ moved from 0.1 to a tuned end, so the study calls them {label}.\n"
    yield from map(markdown, accuracies.compared(name))


def cards() -> str:
    """Cards of all pairs, legitimate ones and heuristics apart, and the hidden list of their pages."""
    groups = {
        "Legitimate": [name for name in PAIRS if is_legitimate(name)],
        "Heuristics": [name for name in PAIRS if not is_legitimate(name)],
    }
    parts = [f"## {head}\n\n{_grid(names)}" for head, names in groups.items() if names]
    pages = "\n".join(f"pairs/{page_of(name)}" for name in PAIRS)
    return "\n".join([*parts, f"{FENCE}{{toctree}}\n:hidden:\n\n{pages}\n{FENCE}\n"])


def _grid(names: Iterable[str]) -> str:
    return "\n".join(["::::{grid} 2 3 4 4", ":gutter: 2", "", *map(_card, names), "::::", ""])


def _card(name: str) -> str:
    return f""":::{{grid-item-card}} {name}
:link: pairs/{page_of(name)}
:link-type: doc
:img-bottom: pairs/{page_of(name)}-card.svg
:img-alt: F and B of {name}
:class-card: {"legitimate" if is_legitimate(name) else "heuristic"}

{_read(PAIRS[name])[0]}
:::"""
