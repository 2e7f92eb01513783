"""Each check of the pages finds what is wrong: every test here breaks something."""

import shutil
import zlib
from pathlib import Path

import pytest

from checks import code_blocks, docstrings, eight_bits, links, numbers, probe, public_names, results, speeds
from checks.claims import claims
from checks.pages import ROOT, blocks

FENCE = "`" * 3


def page(folder: Path, *parts: tuple[str, str]) -> Path:
    """A page of fenced blocks, each (kind, code)."""
    (folder / "docs").mkdir(exist_ok=True)
    path = folder / "docs" / "page.md"
    path.write_text("\n".join(f"{FENCE}{kind}\n{code}\n{FENCE}\n" for kind, code in parts))
    for name in ("Makefile", "pyproject.toml"):
        (folder / name).write_text((ROOT / name).read_text())
    return path


def test_blocks_are_found_with_their_lines_and_what_readers_do_not_see(tmp_path):
    path = tmp_path / "page.md"
    path.write_text(f"# A\n\n<!-- python\nx = 1\n-->\n\n{FENCE}python\nprint(x)\n{FENCE}\n\n{FENCE}text\n1\n{FENCE}\n")
    found = [(block.line, block.kind, block.code, block.hidden) for block in blocks(path)]
    assert found == [(4, "python", "x = 1\n", True), (8, "python", "print(x)\n", False), (12, "text", "1\n", False)]


def test_code_of_other_packages_runs_where_they_are_installed(tmp_path):
    path = page(
        tmp_path, ("python torch", "print(1)"), ("text", "2"), ("python not_there", "1 / 0"), ("text", "what it prints")
    )
    assert [block.needs for block in blocks(path)] == [("torch",), (), ("not_there",), ()]
    (fault,) = code_blocks.run_page(path)
    assert "the code above prints something else" in fault
    assert code_blocks.of_others(tmp_path) == [(path, "not_there"), (path, "torch")]


def test_a_page_whose_code_runs_has_no_fault(tmp_path):
    path = page(tmp_path, ("python", "x = 2"), ("python", "print(x, 'and', id(x))"), ("text", "2 and ..."))
    assert code_blocks.run_page(path) == []


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ([("python", "x = 1"), ("python", "x.no_such_thing")], "no_such_thing"),
        ([("python", "print(1)"), ("text", "2")], "prints something else"),
        ([("python", "print(1)\nraise ValueError('late')")], "late"),
    ],
    ids=["raises", "prints", "late"],
)
def test_code_that_fails_or_prints_something_else_is_found(tmp_path, parts, words):
    (fault,) = code_blocks.run_page(page(tmp_path, *parts))
    assert words in fault
    assert "page.md:" in fault


@pytest.mark.parametrize(
    ("kind", "code", "words"),
    [
        ("", "x = 1", "neither run nor marked"),
        ("py", "x = 1", "neither run nor marked"),
        ("sh", "proxconnect check bnn+ --no-such-option", "no-such-option"),
        ("sh", "proxconnect check no-such-pair --mu", "--mu"),
        ("sh", "proxconnect no-such-verb", "no-such-verb"),
        ("sh", "make no-such-target", "no target no-such-target"),
        ("sh", "pip install '.[demo,no-such-extra]'", "no extra no-such-extra"),
        ("sh", "python benchmarks/no_such_file.py", "no benchmarks/no_such_file.py"),
        ("sh", "proxconnect fit --config recipes/no_such.yaml", "no_such.yaml"),
        ("sh", "no-such-program", "no command that is checked"),
    ],
    ids=["nameless", "py", "option", "value", "verb", "target", "extra", "file", "recipe", "program"],
)
def test_a_block_that_nobody_could_run_is_found(tmp_path, kind, code, words):
    page(tmp_path, (kind, code))
    (fault,) = code_blocks.faults(tmp_path)
    assert words in fault


def test_the_file_of_an_output_need_not_exist(tmp_path):
    page(tmp_path, ("sh", "python -m any tests/new.txt"), ("sh", "python -m any -o tests/new.txt"))
    (fault,) = code_blocks.faults(tmp_path)
    assert "there is no tests/new.txt" in fault


def test_real_commands_have_no_fault(tmp_path):
    page(tmp_path, ("sh", "X=1 make demo  # a comment\npip install '.[demo]'\nproxconnect check \\\n  bnn+ --mu 1 2"))
    assert code_blocks.faults(tmp_path) == []


def test_links_that_lead_nowhere_are_found(tmp_path):
    (tmp_path / "a.html").write_text(
        '<h1 id="here"></h1><a href="b.html#there"></a><a href="#here"></a><a href="https://example.org/x"></a>'
    )
    (tmp_path / "b.html").write_text('<p id="there"></p><a href="a.html"></a>')
    assert links.faults(tmp_path) == []
    (tmp_path / "b.html").write_text('<p id="elsewhere"></p><a href="c.html"></a><img src="gone.png">')
    faults = links.faults(tmp_path)
    assert [fault.split(": ", 1)[1].split(":")[0] for fault in faults] == ["b.html#there", "c.html", "gone.png"]


def test_links_in_the_repository_that_lead_nowhere_are_found(tmp_path):
    (tmp_path / "docs" / "development").mkdir(parents=True)
    (tmp_path / "docs" / "a.md").write_text("# A\n\n## Some: `code`\n")
    right = "[a](../a.md), [b](../a.md#some-code), [c](#here), [d](https://example.org/x), `x[0](gone.md)`\n"
    page = tmp_path / "docs" / "development" / "b.md"
    page.write_text(f"# Here\n\n{right}\n{FENCE}python\nx[0](gone)\n{FENCE}\n")
    assert links.in_repository(tmp_path) == []
    page.write_text("# There\n\n[a](a.md), [b](../a.md#other), [c](#here)\n")
    assert [fault.split(": ", 1)[1].split(":")[0] for fault in links.in_repository(tmp_path)] == [
        "a.md",
        "../a.md#other",
        "#here",
    ]


def inventory(folder: Path, names: list[str]) -> None:
    """An `objects.inv` with these names."""
    entries = "".join(f"{name} py:function 1 page.html#$ -\n" for name in names)
    head = ["# Sphinx inventory version 2", "# Project: p", "# Version: 0", "# The rest is compressed using zlib", ""]
    (folder / "objects.inv").write_bytes("\n".join(head).encode() + zlib.compress(entries.encode()))


def test_a_public_name_that_no_page_describes_is_found(tmp_path):
    names = sorted(set(public_names.shortest_names().values()))
    assert {"proxconnect.binarize", "proxconnect.theory.decompose", "proxconnect.kernels.PANEL"} <= set(names)
    inventory(tmp_path, names)
    assert public_names.faults(tmp_path) == []
    inventory(tmp_path, [name for name in names if name != "proxconnect.binarize"])
    assert public_names.faults(tmp_path) == ["proxconnect.binarize is public, and no page describes it"]


def test_examples_that_print_something_else_and_functions_without_one_are_found(monkeypatch):
    def documented():
        """Example:
        >>> pc.__name__
        'proxconnect'
        >>> torch.zeros(1)
        tensor([1.])
        """

    (fault,) = docstrings.run("documented", documented)
    assert "tensor([0.])" in fault
    assert "__name__" not in fault
    monkeypatch.setattr("proxconnect.binarize.__doc__", "Make the layers binary.")
    assert docstrings.faults() == ["proxconnect.binarize has no example in its docstring"]


@pytest.fixture(scope="module")
def copied(tmp_path_factory):
    """The pages that claim numbers, and what these were recorded in."""
    folder = tmp_path_factory.mktemp("copied")
    records = [probe.LEDGER, speeds.RECORD, eight_bits.RECORD, results.TECHNIQUES, results.LONG]
    ledgers = [
        "studies/fashion-mnist/ledger.jsonl",
        "studies/cifar10/ledger.jsonl",
        "studies/cifar10/sharpness/ledger.jsonl",
    ]
    for name in [*claims(ROOT), *ledgers, "docs/networks.jsonl", *map(str, records)]:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    return folder


def test_the_numbers_of_all_pages_are_those_that_were_recorded(copied):
    assert numbers.faults(copied) == []


CHANGES = [
    ("README.md", "264 runs", "265 runs"),
    ("docs/choosing.md", "(+0.63 to +1.00)", "(+0.63 to +1.01)"),
    ("docs/gallery/index.md", "eleven of them", "twelve of them"),
    ("docs/study.md", "| **−0.48** |", "| −0.48 |"),
    ("studies/bnn_plus_plus/README.md", "| network of the probe | 86.8 |", "| network of the probe | 86.9 |"),
    ("README.md", "| 0.07 MB | 0.603 ms |", "| 0.07 MB | 0.503 ms |"),
    ("README.md", "| 1.98 MB | 1.74 ms |", "| 1.89 MB | 1.74 ms |"),
    ("docs/speed.md", "| **3.39** |", "| **3.38** |"),
    ("docs/speed.md", "ResNet-18 BWA | 49.2 |", "ResNet-18 BWA | 50.2 |"),
    ("docs/binary-or-int8.md", "| OpenVINO int8 | 4.71 |", "| OpenVINO int8 | 5.71 |"),
    ("docs/results.md", "| packed, binary weights | 87.31 |", "| packed, binary weights | 88.31 |"),
    ("docs/results.md", "| 62.9 ± 1.2 | 4.0 ± 1.5 |", "| 62.9 ± 1.2 | 3.0 ± 1.5 |"),
    ("docs/results.md", "| ResNet-18 | AVX-512 | 14.8 | 4.04 |", "| ResNet-18 | AVX-512 | 14.8 | 5.04 |"),
    ("docs/results.md", "80.23 % at epoch 57", "81.23 % at epoch 57"),
    ("studies/cifar10/README.md", "| 59.98 ± 1.03 |", "| 58.98 ± 1.03 |"),
    ("README.md", "bnn++ is 2.9 points", "bnn++ is 3.9 points"),
]
"""Of every record a number."""


@pytest.mark.parametrize("changes", [CHANGES[::2], CHANGES[1::2]], ids=["half", "others"])
def test_numbers_that_were_not_recorded_are_found(copied, changes):
    """Two changes of one table would make one fault."""
    texts = {name: (copied / name).read_text() for name, _, _ in changes}
    for name, before, after in changes:
        text = (copied / name).read_text()
        assert before in text
        (copied / name).write_text(text.replace(before, after))
    faults = numbers.faults(copied)
    for name, text in texts.items():
        (copied / name).write_text(text)
    for _, _, after in changes:
        assert any(after.strip("| ") in fault for fault in faults), after
    assert len(faults) == len(changes)


def test_a_record_that_grew_is_found(copied):
    ledger = copied / "studies" / "fashion-mnist" / "ledger.jsonl"
    text = ledger.read_text()
    ledger.write_text("".join(text.splitlines(keepends=True)[:-1]))
    faults = numbers.faults(copied)
    ledger.write_text(text)
    assert any("263 runs" in fault for fault in faults)
