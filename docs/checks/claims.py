"""What the pages say in numbers, made again of what was recorded: each claim must stand on its page word for word."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import proxconnect as pc
from checks import eight_bits, probe
from checks.recorded import Study, networks, signed
from checks.speeds import CLASSES, Runs, table

CNN, VIT = "resnet BW E2E", "vit BW E2E"

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

HEURISTICS = {"bnn++": MOVED, "poly+": "poly", "ede+": "ede", "erf+": "erf moved"}
"""The labels of the heuristics by those of their corrections."""


def claims(root: Path) -> Mapping[str, Sequence[str]]:
    """By page, the texts with numbers that must be on it; spaces and line breaks are alike."""
    study = Study.of(root)
    rows = len(study.entries)
    return {
        "README.md": [
            f"{rows} runs, in which",
            f"lists {networks(root)} networks of timm",
            f"{spelled(len(pc.PAIRS)).capitalize()} pairs from BinaryConnect to BNN++",
            *speeds_and_sizes(Runs.of(root)),
        ],
        "docs/speed.md": [line for processor in CLASSES for line in table(Runs.of(root), processor)],
        "docs/index.md": [f"proxconnect has {spelled(len(pc.PAIRS))} of them"],
        "docs/reliability.md": [f"{networks(root)} networks of timm"],
        "docs/study.md": [f"has {rows} runs on real pictures", *in_the_study(study), *probe.table(root)],
        "docs/legitimate.md": in_words(study),
        "docs/choosing.md": when_choosing(study),
        "docs/binary-or-int8.md": eight_bits.claims(root),
    }


def speeds_and_sizes(runs: Runs) -> list[str]:
    """Whole networks beside other engines, and their files."""
    resnet, deit = (
        [runs.megabytes(network, form) for form in ("float", "packed", "packed, int8 and float16")]
        for network in ("resnet18", "deit_tiny_patch16_224")
    )
    return [
        *table(runs, "amx"),
        *table(runs, "avx512"),
        f"With two threads 16 images are {runs.scaling()}",
        f"takes {resnet[0]} MB in float32 takes {resnet[1]} MB, or {resnet[2]} MB with",
        f"DeiT-tiny takes {deit[0]}, {deit[1]} and {deit[2]} MB",
    ]


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


def in_words(study: Study) -> list[str]:
    """What the page on legitimacy says of accuracy."""
    scratch, inputs, tuned = (study.lead("bnn++", MOVED, labels) for labels in (CNN, "resnet BWA E2E", "vit BW FT"))
    return [
        f"bnn++ by {scratch.mean:.2f} points (95 % interval {scratch.low:.2f} to {scratch.high:.2f})",
        *(f"by {-lead.mean:.2f} ({-lead.high:.2f} to {-lead.low:.2f})" for lead in (inputs, tuned)),
    ]


def when_choosing(study: Study) -> list[str]:
    """The decision table."""

    def plus(labels: str) -> str:
        return f"bnn++ against {MOVED} {study.ahead('bnn++', MOVED, labels)}"

    def bc(labels: str) -> str:
        return study.ahead("bnn++", "bc", labels)

    def corrected(pair: str, labels: str) -> str:
        return study.ahead(pair, HEURISTICS[pair], labels)

    def below_float(pair: str) -> str:
        return study.lost(f"{CNN} {pair}", "resnet float")

    return [
        f"bnn++ over {MOVED} {study.ahead('bnn++', MOVED, CNN)}, over bc {bc(CNN)}",
        f"{below_float('bnn++')} below float",
        f"clip+ ({below_float('clip+')} below float), parq ({below_float('parq')}) and pc ({below_float('pc')})",
        *(f"{plus(labels)}, against bc {bc(labels)}" for labels in (VIT, "resnet BW FT", "vit BW FT")),
        plus("resnet BWA E2E"),
        plus("resnet BWAA E2E"),
        f"{MOVED}: {study.accuracy(f'resnet BWA FT {MOVED}')} fine-tuned for 2 epochs",
        f"{study.accuracy(f'resnet BWA E2E {MOVED}')} from scratch in 4",
        f"{study.accuracy(f'{CNN} bc')} and {study.accuracy(f'{CNN} bnn')}",
        f"{MOVED} {study.accuracy(f'{CNN} {MOVED}')}, bnn++ {study.accuracy(f'{CNN} bnn++')}",
        f"poly+ {corrected('poly+', CNN)}, ede+ {corrected('ede+', CNN)}, erf+ {corrected('erf+', CNN)}",
        f"poly+ on the ViT {corrected('poly+', VIT)}, in BWA {corrected('poly+', 'resnet BWA E2E')}",
        f"md lies {below_float('md')} below float",
    ]


def spelled(number: int) -> str:
    """A small number as a word."""
    words = {14: "fourteen", 15: "fifteen", 16: "sixteen", 17: "seventeen", 18: "eighteen", 19: "nineteen"}
    return words.get(number, str(number))
