"""Every help: 80 columns, examples that the parser takes, and those that cost little do what they say."""

import contextlib
import io
import os
import shutil
from pathlib import Path

import pytest
import torch
from checkpoints import CODE, namespace
from examples_of_help import commands, examples

import proxconnect as pc
from proxconnect.cli.command import _parser, main
from proxconnect.cli.verbs.train import VERBS as TRAINING

REPOSITORY = Path(__file__).parents[2]
PAIRS = """
from proxconnect.pairs import PAIRS

my_pair, my_network = PAIRS["bnn"], net
my_forward, my_surrogate = torch.nn.functional.hardtanh, lambda x: 1 / (1 + x.square())


def my_backward(x):
    return (x.abs() <= 1).to(x.dtype)
"""


def verbs() -> list[str]:
    (commands,) = (action for action in _parser()._actions if action.dest == "==SUPPRESS==" and action.choices)
    return list(commands.choices)


def help_of(*verb: str) -> str:
    """Return the help for a terminal of 80 columns."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", "80")
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            assert main([*verb, "--help"]) == 0
    return printed.getvalue()


@pytest.mark.parametrize("verb", ["", *verbs()])
def test_help_fits_80_columns_and_ends_with_examples_and_exit_codes(verb):
    text = help_of(*verb.split())
    assert [line for line in text.splitlines() if len(line) > 80] == []
    assert 2 <= len(examples(text)) <= 7
    assert text.index("\nexamples:\n") < text.index("\nexit codes:\n")
    assert "\n  0    " in text
    assert "\n  2    wrong use" in text


@pytest.mark.parametrize("verb", ["", *verbs()])
def test_examples_of_the_help_parse(verb, monkeypatch):
    """Parse examples; Lightning's parser reads real recipes and prints the configuration."""
    monkeypatch.chdir(REPOSITORY)
    for example in examples(help_of(*verb.split())):
        assert not verb or example[0] == verb
        if example[0] in TRAINING:
            assert main([word for word in [*example, "--print_config"] if word != "--json"]) == 0
        else:
            _parser().parse_args(example)


def test_an_example_with_an_option_that_is_not_there_would_fail(capsys):
    (wrong,) = examples("\nexamples:\n  proxconnect bench resnet18 \\\n      --modus BW   # no such option\n\nexit")
    assert wrong == ["bench", "resnet18", "--modus", "BW"]
    with pytest.raises(SystemExit):
        _parser().parse_args(wrong)


@pytest.fixture
def theirs(folder):
    """Write the files that examples name: a module, checkpoints, a packed file, grids."""
    (folder / "my_module.py").write_text(CODE.replace("torch.randn(2, 3, 8, 8)", "torch.ones(2, 3, 8, 8)") + PAIRS)
    net = namespace()["net"]
    pc.save(pc.pack(pc.binarize(net(), "bnn", "bnn").eval()), "net.safetensors")
    torch.save({"state_dict": pc.binarize(net(), "bnn").state_dict()}, "last.ckpt")
    torch.save(net().state_dict(), "float.pt")
    shutil.copytree(REPOSITORY / "studies", folder / "studies", ignore=shutil.ignore_patterns("*.png"))
    return folder


EXITS = {"check bnn+": 1, "check --backward my_module:my_surrogate": 1}
"""Exit codes of examples that answer no."""
LONG = ("bireal_resnet18", "--all", "--plot", "--only", "--limit", "--on", "--tables", "--verify")
"""Words of examples that train, draw or build a large network."""
OF_THEIRS = {"1 3 64 64": "1 3 8 8"}
"""The network of the tests takes smaller images."""


@pytest.mark.parametrize(
    "verb", ["check", "study", "pack", "summary", pytest.param("export", marks=pytest.mark.thorough)]
)
def test_examples_that_cost_little_do_what_they_say(theirs, verb, request, capsys):
    if verb == "export":
        request.getfixturevalue("llama")
    for example in examples(help_of(verb)):
        if not set(LONG) & set(example):
            _do(" ".join(example))


def test_examples_of_the_page_do_what_they_say(theirs, capsys):
    page = (REPOSITORY / "docs" / "command-line.md").read_text()
    found = [" ".join(example) for example in commands(page)]
    assert len(found) >= 5
    for example in found:
        _do(example, {**EXITS, "check bnn+ --json": 1})


def _do(example: str, exits: dict[str, int] = EXITS) -> None:
    words = example
    for of_help, of_tests in OF_THEIRS.items():
        words = words.replace(of_help, of_tests)
    assert main(words.split()) == exits.get(example, 0), example
    assert os.getcwd() != str(REPOSITORY)
