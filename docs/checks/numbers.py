"""Are the numbers on the pages those that were recorded?"""

import re
from difflib import SequenceMatcher
from pathlib import Path

from checks.claims import claims
from checks.pages import ROOT


def plain(text: str) -> str:
    """The text with one space for each run of them."""
    return re.sub(r"\s+", " ", text)


def nearest(claim: str, text: str) -> str:
    """What of the text is most like the claim."""
    matcher, most, found = SequenceMatcher(b=claim, autojunk=False), -1.0, ""
    for start in (0, *(match.end() for match in re.finditer(" ", text))):
        piece = text[start : start + len(claim)]
        matcher.set_seq1(piece)
        if matcher.quick_ratio() > most and (ratio := matcher.ratio()) > most:  # the former is never less
            most, found = ratio, piece
    return found


def faults(root: Path = ROOT) -> list[str]:
    """The claims that their page does not make in these numbers."""
    found = []
    for page, texts in claims(root).items():
        said = plain((root / page).read_text())
        found += [
            f"{root / page}: recorded is {claim!r}, but the page says {nearest(claim, said)!r}"
            for claim in map(plain, texts)
            if claim not in said
        ]
    return found
