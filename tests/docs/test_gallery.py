"""The gallery says of each pair what its docstring, the theory and the ledger say, and of new ones without more ado."""

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
from latex2mathml.converter import convert

from extensions import gallery
from extensions.gallery import accuracies, pages, pictures, verdicts
from extensions.gallery.formulas import SYMBOLS, papers, prose, tex
from extensions.gallery.names import page_of
from proxconnect.pairs import PAIRS, Heuristic, Pair, Prox, prox, transform

FORMULA = re.compile(r"\$+([^$]+)\$+")


@pytest.mark.parametrize(
    ("plain", "expected"),
    [
        ("argmin_{z ∈ {-1, +1}} ½(z - x)²", r"\operatorname*{argmin}_{z \in  \{-1, +1\}} \tfrac{1}{2}(z - x)^{2}"),
        ("μ·1[|μx| ≤ 1]", r"\mu \cdot \mathbf{1}[|\mu x| \leq  1]"),
        ("(2μ/√π)·e^{-μ²x²}", r"(2\mu /\sqrt{\pi })\cdot e^{-\mu ^{2}x^{2}}"),
        ("SS'_μ(x)", "\\mathrm{SS}′_\\mu (x)"),
        ("k·t·(1 - tanh²(tx))", r"k\cdot t\cdot (1 - \operatorname{tanh}^{2}(tx))"),
        ("(2 - 2|x|)₊", "(2 - 2|x|)_{+}"),
    ],
    ids=["set", "indicator", "root", "prime", "function", "positive part"],
)
def test_plain_formulas_become_tex(plain, expected):
    assert tex(plain) == expected


@pytest.mark.parametrize(
    ("plain", "expected"),
    [
        ("B varies where P is flat, for 0 < x < 27.02.", "$B$ varies where $P$ is flat, for $0 < x < 27.02$."),
        ("It ends at ±1, as a Pair says; see `x = 1`.", r"It ends at $\pm 1$, as a Pair says; see `x = 1`."),
        ("P jumps from -0.5 to 0.5.", "$P$ jumps from $-0.5$ to 0.5."),
        ("H(±1) = ln 2, by Yin 2018\n (arXiv\n 1801.06313).",
         r"$H(\pm 1) = \operatorname{ln} 2$, by Yin 2018 ([arXiv 1801.06313](https://arxiv.org/abs/1801.06313))."),
    ],
    ids=["relation", "code", "number", "paper"],
)  # fmt: skip
def test_formulas_are_found_in_prose(plain, expected):
    assert prose(plain) == expected


@pytest.mark.parametrize("name", PAIRS)
def test_a_page_shows_f_and_b_and_every_formula_of_the_docstrings(name):
    text = pages.page(name)
    shown = [formula.strip() for formula in re.findall(r"\$\$([^$]+)\$\$", text)]
    assert shown[0].startswith("F(x) =")
    assert shown[1].startswith("B")
    for formula in FORMULA.findall(text):
        ElementTree.fromstring(convert(formula))
    pair = PAIRS[name]
    parts = [type(part) for part in (pair.prox, pair.transform)] if isinstance(pair, Pair) else []
    for docstring in [pair.doc, *(part.__doc__ for part in parts)]:
        plain = re.sub(r"`[^`]*`", "", FORMULA.sub("", prose(docstring)))
        assert not set(plain) & (set(SYMBOLS) - {"'"}), f"formulas that are not found: {plain}"


@pytest.mark.parametrize("name", PAIRS)
def test_every_pair_but_full_precision_names_its_paper(name):
    named = papers(PAIRS[name].doc)
    assert bool(named) == (name != "fp")
    assert all(f"https://arxiv.org/abs/{paper}" in pages.page(name) for paper in named)


def test_legitimate_pairs_and_heuristics_are_told_apart_as_they_are_declared():
    assert [name for name in PAIRS if verdicts.is_legitimate(name)] == [
        n for n, p in PAIRS.items() if isinstance(p, Pair)
    ]
    legitimate, heuristics = pages.cards().split("## Heuristics")
    for name, pair in PAIRS.items():
        assert f"grid-item-card}} {name}\n" in (legitimate if isinstance(pair, Pair) else heuristics)


def test_heuristics_and_their_corrections_name_each_other():
    for name, pair in PAIRS.items():
        if isinstance(pair, Heuristic):
            corrected = "bnn++" if name == "bnn+" else f"{name}+"
            assert f"The correction is [{corrected}]({page_of(corrected)}.md)" in pages.page(name)
            assert f"It corrects [{name}]({page_of(name)}.md)" in pages.page(corrected)


def table_of(network: str) -> tuple[list[str], dict[str, list[str]], str]:
    """The heads, the lines by pair and the notes of the first table of a network in the study's own tables.md."""
    text = (accuracies.STUDY / "tables.md").read_text()
    part = text.split(f"**{network}: Accuracy of the hard network in %, batch norm re-estimated**")[1].split("**")[0]
    lines = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in part.splitlines() if line.startswith("|")
    ]
    return lines[0][1:], {line[0]: line[1:] for line in lines[2:]}, part


def written(spread, like: str, usual: int) -> str:
    """The spread with as many decimals as the cell `like` has."""
    decimals = len(like.split("±")[0].split(".")[1])
    count = "" if spread.seeds == usual else f" ({spread.seeds})"
    return f"{100 * spread.mean:.{decimals}f}±{100 * spread.sd:.{decimals}f}{count}"


@pytest.mark.parametrize("network", ["resnet", "vit"])
def test_accuracies_are_those_of_the_tables_of_the_study(network):
    heads, lines, part = table_of(network)
    usual = int(re.search(r"of (\d+) seeds", part)[1])
    seen = 0
    for label, cells in lines.items():
        pair = label.removesuffix(" moved")
        assert accuracies.label(pair) == label
        found = accuracies.spreads(pair)
        for head, cell in zip(heads, cells, strict=True):
            spread = found.get((network, *head.split(" ", 2)))
            assert (spread is None) == (cell == "-")
            if spread:
                assert written(spread, cell, usual) == cell
                assert f"{100 * spread.mean:.2f}±{100 * spread.sd:.2f}" in pages.page(pair)
                seen += 1
    assert seen > 5


def test_the_float_network_has_its_accuracies():
    assert "85.38±0.35 | 85.13 to 85.63 | - | 10 |" in pages.page("fp")


class Own(Prox):
    """Half of the way to the sign."""

    def __call__(self, x, mu):
        return 0.5 * (x + prox.sign(x, mu))


NEW = {
    "documented": (Pair("new@1", prox=Own(), doc="Mine: F(x) = ½(x + sign(x)), B(x) = 1."), "F(x) = \\tfrac{1}{2}"),
    "bare pair": (Pair("new@2"), "no run of it"),
    "bare heuristic": (Heuristic("new@3", prox.sign, transform.hardtanh.derivative), 'weights="new@3"'),
    "heuristic that none of the catalogue corrects": (Heuristic("new@4", prox.sign, prox.tanh), 'name="new@4+"'),
}


@pytest.mark.parametrize("what", NEW)
def test_a_new_pair_has_its_page(monkeypatch, what):
    pair, words = NEW[what]
    monkeypatch.setitem(PAIRS, pair.name, pair)
    assert words in pages.page(pair.name)
    assert f"pairs/{pair.name.replace('@', '-')}" in pages.cards()


@pytest.fixture
def few(monkeypatch) -> list[str]:
    """A catalogue of three."""
    names = ["bc", "poly", "poly+"]
    for module in (gallery, pages, pictures):
        monkeypatch.setattr(module, "PAIRS", {name: PAIRS[name] for name in names})
    return names


def test_only_what_changed_is_written_and_what_is_of_no_pair_goes(tmp_path: Path, few: list[str]):
    gallery.write(tmp_path)
    files = {
        "cards.md",
        *(f"{page_of(name)}{end}" for name in few for end in (".md", "-card.svg", "-curves.svg", "-verdict.svg")),
    }
    assert {path.name for path in tmp_path.iterdir()} == files
    before = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    (tmp_path / "gone.md").write_text("# gone")
    gallery.write(tmp_path)
    assert {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before
