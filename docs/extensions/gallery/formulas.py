"""What docstrings say in plain characters, as the site shows it: formulas between dollars, papers as links.

A formula of a docstring is written as `argmin_{|z| ≤ 1} ½(z - x)²`. What is a formula shows by its characters.
"""

import inspect
import re
from collections.abc import Iterator

SYMBOLS = {
    "μ": r"\mu ", "σ": r"\sigma ", "π": r"\pi ", "ρ": r"\rho ", "ϱ": r"\varrho ", "ℓ": r"\ell ", "·": r"\cdot ",
    "∘": r"\circ ", "→": r"\to ", "≥": r"\geq ", "≤": r"\leq ", "≈": r"\approx ", "±": r"\pm ",
    "∞": r"\infty ", "∈": r"\in ", "∫": r"\int ", "'": "′",
    "½": r"\tfrac{1}{2}", "²": "^{2}", "³": "^{3}", "₊": "_{+}", "₀": "_{0}",
}  # fmt: skip
"""Characters of docstrings and their TeX."""

FUNCTIONS = re.compile(r"\b(sign|clip|tanh|erf|dist|min|max|ln|cosh|arctan)\b")

ROOT = re.compile(r"√(\w|\([^()]*\))")

INDICATOR = re.compile(r"(?<![\w.])1(?=\[)")

NAMES = re.compile(r"([B-HJ-Zb-z]|SS)'?|-\d[\d.]*")
"""What is a formula where it stands alone."""

CALL = re.compile(r"[A-Za-z]\w*'?\(|[\[{(][-+]?\d")

JOINT = re.compile(r"[-+=<>/]|[-+]?\d[\d.]*")
"""What continues a formula."""

RELATIONS = {"<", ">", "=", "≤", "≥"}

WORD = re.compile(r"(?:`[^`]*`|\S)+")
"""What is between backticks is one."""

PAPER = re.compile(r"arXiv (\d{4}\.\d{4,5})")


def tex(formula: str) -> str:
    """A formula in TeX."""
    text = ROOT.sub(lambda root: rf"\sqrt{{{root[1]}}}", "".join(_braced(formula)))
    text = "".join(SYMBOLS.get(character, character) for character in text)
    text = FUNCTIONS.sub(r"\\operatorname{\1}", INDICATOR.sub(r"\\mathbf{1}", text))
    text = text.replace("argmin", r"\operatorname*{argmin}")
    return text.replace("SS", r"\mathrm{SS}").strip()


def _braced(formula: str) -> Iterator[str]:
    """The characters, where braces that group nothing are those of a set."""
    groups: list[bool] = []
    for before, character in zip(" " + formula, formula, strict=False):
        if character == "{":
            groups.append(before in "_^")
        is_set = character in "{}" and bool(groups) and not groups[-1]
        yield "\\" + character if is_set else character
        if character == "}" and groups:
            groups.pop()


def clauses(sentence: str) -> list[str]:
    """The parts of a sentence between commas, semicolons and colons outside of brackets."""
    found, depth = [""], 0
    for character in sentence.rstrip("."):
        depth += (character in "([{") - (character in ")]}")
        if character in ",;:" and not depth:
            found.append("")
        else:
            found[-1] += character
    return [clause.strip() for clause in found]


def prose(docstring: str) -> str:
    """A docstring in Markdown."""
    paragraphs = inspect.cleandoc(docstring).split("\n\n")
    text = "\n\n".join(" ".join(_marked(WORD.findall(paragraph))) for paragraph in paragraphs)
    return PAPER.sub(r"[arXiv \1](https://arxiv.org/abs/\1)", text)


def _marked(words: list[str]) -> Iterator[str]:
    """The words, those of a formula joined between dollars."""
    formula: list[str] = []
    for word, following in zip(words, [*words, ""][1:], strict=True):
        bare = word.rstrip(".,;:") if _depth([*formula, word]) <= 0 else word
        if formula and (_is_open(formula) or _is_formula(bare) or JOINT.fullmatch(bare)):
            formula.append(bare)
        elif _is_formula(bare) or (JOINT.fullmatch(bare) and following in RELATIONS):
            yield from _closed(formula)
            formula = [bare]
        else:
            yield from _closed(formula)
            formula = []
            yield word
            continue
        if bare != word:
            yield f"${tex(' '.join(formula))}${word[len(bare) :]}"
            formula = []
    yield from _closed(formula)


def _closed(formula: list[str]) -> Iterator[str]:
    if formula:
        yield f"${tex(' '.join(formula))}$"


def _depth(words: list[str]) -> int:
    """How many brackets are open."""
    text = " ".join(words)
    return sum(map(text.count, "([{")) - sum(map(text.count, ")]}"))


def _is_open(formula: list[str]) -> bool:
    """Whether the next word belongs to the formula, whatever it is."""
    return _depth(formula) > 0 or formula[-1] in {"=", "-", "+", "ln"}


def _is_formula(word: str) -> bool:
    if "`" in word:
        return False
    return bool(NAMES.fullmatch(word)) or bool(CALL.match(word)) or any(c in "=|√^{}_" or c in SYMBOLS for c in word)


def papers(docstring: str) -> list[str]:
    """The numbers at arXiv of the papers that a docstring names, in their order."""
    return list(dict.fromkeys(PAPER.findall(" ".join(docstring.split()))))
