"""`proxconnect check`: is a forward-backward pair legitimate, why, and what mends it?"""

import argparse
from contextlib import nullcontext

from proxconnect._support import extras
from proxconnect._support.user_code import importable_folder
from proxconnect.cli.answer import JSON_HELP, Answer, print_answer
from proxconnect.cli.check.subject import Mended, mend, named, subject
from proxconnect.cli.check.verdicts import as_json, deciding, shown, status
from proxconnect.cli.parser import Exit, Parser, epilog, number, picture
from proxconnect.inspection import plots
from proxconnect.pairs import PAIRS
from proxconnect.pairs.catalogue import SURROGATES
from proxconnect.theory import plot_verdict
from proxconnect.theory.verdicts.decomposition import DOMAIN, Verdict

_ABOUT = """
PAIR is a name of the catalogue or of a surrogate (--all lists them), or code of
yours, MODULE:NAME, imported as `python -m` does, from the current folder too:
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
    Exit.UNDECIDED: "could not tell",
}


def add_to(commands: "argparse._SubParsersAction[Parser]") -> None:
    """Add `check` to the subcommands of the parser."""
    command = commands.add_parser(
        "check",
        help="is a forward-backward pair legitimate, why, and what mends it?",
        description="Check whether (F, B) = (T∘P, T'∘P) for a transform T and a proximal quantiser P,\n"
        "which gives it ProxConnect's convergence theory. If not, make a legitimate pair\nthat keeps B.",
        epilog=epilog(_EXAMPLES, _EXITS, _ABOUT),
    )
    add = command.add_argument
    add("pair", nargs="*", metavar="PAIR", help="what to check; F and B are two")
    add("--backward", metavar="MODULE:NAME", help="check B alone, with F = sign")
    add("--mu", nargs="+", type=number, metavar="M", help="sharpness; default: 1 2 5, or those from the lowest on")
    add("--domain", nargs=2, type=number, metavar=("LOW", "HIGH"), help="of x, plain decimals; default: -1000 1000")
    add("--all", action="store_true", help="the table of the catalogue beside it, or alone")
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
    mended: Mended | str | None = None
    picture = None
    is_user_code = parsed.backward or any(":" in name for name in parsed.pair)
    with importable_folder() if is_user_code else nullcontext():
        if names_pair:
            asked = subject(parsed.pair, parsed.backward)
            verdicts = [asked.verdict(mu, domain) for mu in asked.mus(parsed.mu or ())]
            worst = deciding(verdicts)
            try:
                mended = mend(asked, worst.mu) if worst.legitimate is False else None
            except ValueError as error:
                mended = str(error)
            if parsed.plot:
                plots.save(plot_verdict(worst), parsed.plot)
                at = "" if worst.mu is None else f" at μ = {worst.mu:g}"
                picture = f"{parsed.plot} shows {worst.name}{at}."
        table = []
        for pair in map(named, (*PAIRS, *SURROGATES) if parsed.all else ()):
            allowed = [mu for mu in parsed.mu or () if pair.sharpness is None or pair.sharpness.contains(mu)]
            table.append([pair.verdict(mu, domain) for mu in pair.mus(allowed)])
        data = as_json(verdicts, mended, table) if parsed.json else None  # calls their code
    return Answer(data, shown(verdicts, mended, picture, table), status(verdicts))
