"""What the pages say in numbers, made again of what was recorded: each claim must stand on its page word for word."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import proxconnect as pc
from checks import eight_bits, probe, readme, results
from checks.recorded import Study, networks, signed
from checks.speeds import CLASSES, Runs, table

CNN, VIT, FINE_TUNED = "resnet BW E2E", "vit BW E2E", "resnet BW FT"

EIGHT = {
    "CNN, BW, from scratch": "resnet BW E2E",
    "CNN, BW, fine-tuned": "resnet BW FT",
    "ViT, BW, from scratch": "vit BW E2E",
    "ViT, BW, fine-tuned": "vit BW FT",
    "CNN, BWA, from scratch": "resnet BWA E2E",
    "CNN, BWA, fine-tuned": "resnet BWA FT",
    "CNN, BWAA, from scratch": "resnet BWAA E2E",
    "CNN, BWAA, fine-tuned": "resnet BWAA FT",
}
"""The settings in which bnn++ stands beside bnn+, by what the study calls them."""

MOVED = "bnn+ moved"
"""The label of bnn+ in the ledger, whose μ moved in all rows."""

SHARPER = {"bnn++": "bnn++ to 30", "bnn+": "bnn+ at 0.5", MOVED: "bnn+ moved to 30"}
"""The labels of fine-tuning with the μ that was chosen for it, by those with the μ that was chosen from scratch."""

HEURISTICS = {"bnn++": MOVED, "poly+": "poly", "ede+": "ede", "erf+": "erf moved"}
"""The labels of the heuristics by those of their corrections."""


def claims(root: Path) -> Mapping[str, Sequence[str]]:
    """By page, the texts with numbers that must be on it; spaces and line breaks are alike."""
    study, colours = Study.of(root), Study.of(root, "cifar10")
    rows, ahead = len(study.entries), on_colours(colours)
    return {
        "README.md": [*readme.claims(root), methods()],
        "docs/speed.md": speeds(Runs.of(root)),
        "docs/index.md": [methods()],
        "docs/development/reliability.md": [f"{networks(root)} networks of timm"],
        "docs/study.md": [
            f"has {rows} runs on real pictures",
            *in_the_study(study),
            f"| from scratch, 12 epochs | {ahead['E2E']} |",
            f"| fine-tuned, 6 epochs, with the same μ | {ahead['FT']} |",
            f"| fine-tuned, 6 epochs, μ chosen for it | {ahead_if_sharper(colours)} |",
        ],
        "studies/bnn_plus_plus/README.md": probe.table(root),
        "studies/cifar10/README.md": [*so_far(colours), *if_mu_moves_otherwise(Study.of(root, "cifar10/sharpness"))],
        "docs/legitimate.md": [methods()],
        "docs/gallery/index.md": [methods().capitalize()],
        "docs/choosing.md": [
            *when_choosing(study),
            f"on CIFAR-10 (JPEG) {colours.ahead(SHARPER['bnn++'], SHARPER['bnn+'], FINE_TUNED)} against bnn+",
        ],
        "docs/binary-or-int8.md": eight_bits.claims(root),
        "docs/results.md": results.claims(root),
    }


def speeds(runs: Runs) -> list[str]:
    """Whole networks beside other engines, a table for each class of processors, and what two threads gain."""
    lines = [line for processor in CLASSES for line in table(runs, processor)]
    return [*lines, f"Two threads make a batch of 16 images {runs.scaling()}"]


def on_colours(study: Study) -> dict[str, str]:
    """What bnn++ has more than bnn+, as published and moved, from scratch and fine-tuned on CIFAR-10 (JPEG)."""
    return {
        start: " | ".join(study.ahead("bnn++", other, f"resnet BW {start}") for other in ("bnn+", MOVED))
        for start in ("E2E", "FT")
    }


def ahead_if_sharper(study: Study) -> str:
    """The same of fine-tuning with the μ that was chosen for it."""
    return " | ".join(study.ahead(SHARPER["bnn++"], SHARPER[other], FINE_TUNED) for other in ("bnn+", MOVED))


def so_far(study: Study) -> list[str]:
    """The lines on the accuracies of these pairs and the differences, and the accuracy of the float networks."""
    ahead, accuracies = on_colours(study), {}
    for start in ahead:
        means = (study.of_pair(pair, f"resnet BW {start}") for pair in ("bnn++", "bnn+", MOVED))
        accuracies[start] = " | ".join(means)
    sharper = " | ".join(study.of_pair(label, FINE_TUNED) for label in SHARPER.values())
    return [
        f"the float networks have {study.of_pair('fp', 'resnet float')}",
        f"| from scratch | {accuracies['E2E']} | {ahead['E2E']} |",
        f"| fine-tuned | {accuracies['FT']} | {ahead['FT']} |",
        f"| fine-tuned, μ chosen for it | {sharper} | {ahead_if_sharper(study)} |",
        f"its soft networks have {study.soft('bnn++', FINE_TUNED)} %",
        "gains bnn++ {} points {}".format(*study.ahead(SHARPER["bnn++"], "bnn++", FINE_TUNED)[1:].split(maxsplit=1)),
    ]


def if_mu_moves_otherwise(study: Study) -> list[str]:
    """The lines on bnn++ in fine-tuning by the movement of its μ."""
    lines = []
    for moves in ("0.3 to 10", "1 to 10", "3 to 10", "0.1 to 30", "0.1 to 100"):
        ahead = (study.ahead(moves, "0.1 to 10", f"bnn++ {epochs}", "moves") for epochs in (4, 12))
        lines.append(f"| from {moves} | {' | '.join(ahead)} |")
    return lines


def in_the_study(study: Study) -> list[str]:
    """The table of the eight settings, and the best pairs."""
    lines = []
    for name, labels in EIGHT.items():
        lead = study.lead("bnn++", MOVED, labels)
        mean = f"**{signed(lead.mean)}**" if lead.low > 0 or lead.high < 0 else signed(lead.mean)
        lines.append(f"| {name} | {mean} | {signed(lead.low)} to {signed(lead.high)} | {lead.seeds} |")
    *ahead, last = (f"{study.lead(pair, heuristic, CNN).mean:.2f}" for pair, heuristic in HEURISTICS.items())
    by_name = ", ".join(f"{points} ({pair})" for points, pair in zip(ahead, HEURISTICS, strict=False))
    return [*lines, f"ahead by {by_name} and {last} points (erf+)"]


def when_choosing(study: Study) -> list[str]:
    """Return the cells of the decision table, and what it is compared with."""

    def bc(labels: str) -> str:
        return study.ahead("bnn++", "bc", labels)

    def corrected(pair: str) -> str:
        return study.ahead(pair, HEURISTICS[pair], CNN)

    def below_float(pair: str, labels: str = CNN) -> str:
        return study.lost(f"{labels} {pair}", f"{labels.split()[0]} float")

    def against_float(pair: str) -> str:
        return signed(study.spread(f"vit BW FT {pair}", "vit float")[0], 1)

    inputs = "resnet BWA E2E"
    return [
        f"{below_float('bnn++')} below float; {bc(CNN)} over bc",
        f"{below_float('clip+')}, {below_float('parq')} and {below_float('pc')} below float",
        *(f"bnn++ {bc(labels)} against bc" for labels in (VIT, "resnet BW FT")),
        f"against float: {', '.join(f'{pair} {against_float(pair)}' for pair in (MOVED, 'bc', 'bnn++'))}",
        f"{below_float(MOVED, inputs)} below float, bnn++ {below_float('bnn++', inputs)}",
        f"{MOVED}: {study.accuracy(f'resnet BWA FT {MOVED}')} % after 2 epochs of fine-tuning",
        f"{study.accuracy(f'{inputs} {MOVED}')} % after 4 from scratch",
        f"{study.accuracy(f'{CNN} bc')} and {study.accuracy(f'{CNN} bnn')} %",
        f"with a schedule bnn++ has {study.accuracy(f'{CNN} bnn++')} %",
        f"poly+ {corrected('poly+')}, ede+ {corrected('ede+')}, erf+ {corrected('erf+')}",
        f"md is {below_float('md')} below float",
        f"loses {study.lost('resnet BW PTQ', 'resnet float')} points on the CNN",
        f"and {study.lost('vit BW PTQ', 'vit float')} on the ViT",
        f"pc loses {below_float('pc')} points with ProxConnect++, {below_float('pc reverse')} with reverse ProxConnect",
        f"and {below_float('pc ProxQuant')} with ProxQuant",
    ]


def methods() -> str:
    """Return how many pairs of the catalogue quantize, and how many of these the theory covers."""
    quantizing = [pair for name, pair in pc.PAIRS.items() if name != "fp"]
    covered = sum(isinstance(pair, pc.Pair) for pair in quantizing)
    return (
        f"{spelled(len(quantizing))} methods besides full precision, {spelled(covered)} of them covered by the theory"
    )


def spelled(number: int) -> str:
    """A small number as a word."""
    words = {
        11: "eleven",
        12: "twelve",
        13: "thirteen",
        14: "fourteen",
        15: "fifteen",
        16: "sixteen",
        17: "seventeen",
        18: "eighteen",
        19: "nineteen",
    }
    return words.get(number, str(number))
