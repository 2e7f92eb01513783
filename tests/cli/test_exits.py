"""Exit codes: one table, which the help, the page and every verb keep."""

import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from test_help import help_of

from proxconnect.cli.command import main
from proxconnect.cli.parser import MEANINGS, Exit
from proxconnect.version import __version__

PAGE = Path(__file__).parents[2] / "docs" / "command-line.md"


def test_the_help_and_the_page_have_the_table():
    assert set(MEANINGS) == set(Exit)
    shown = {code.value: meaning for code, meaning in MEANINGS.items()}
    lines = re.findall(r"^  (\d+) +(.+)$", help_of().partition("exit codes:")[2], re.MULTILINE)
    assert {int(code): meaning for code, meaning in lines} == shown
    section = PAGE.read_text().partition("## Exit codes")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (\d+) \| (.+) \|$", section, re.MULTILINE)
    assert {int(code): meaning.replace("\\|", "|") for code, meaning in rows} == shown


CODE = """
def steps(x):
    return (x * 4).round() / 4


def failing(x):
    raise RuntimeError("no licence")


def interrupted():
    raise KeyboardInterrupt


def terminated():
    import signal

    signal.raise_signal(signal.SIGTERM)


def unread():
    raise BrokenPipeError
"""
COMMANDS = {
    "--version": Exit.DONE,
    "check bnn": Exit.DONE,
    "check bnn+": Exit.NO,
    "check reste": Exit.NO,
    "check bnn-": Exit.MISUSE,
    "check codes:failing": Exit.MISUSE,
    "": Exit.MISUSE,
    "frobnicate": Exit.MISUSE,
    "demo --epochs 0": Exit.MISUSE,
    "fit": Exit.MISUSE,
    "fit --config nowhere.yaml": Exit.MISUSE,
    "validate --model.colour red": Exit.MISUSE,
    "test --data Digits": Exit.MISUSE,
    "study nowhere.yaml": Exit.MISUSE,
    "discover nowhere.yaml": Exit.MISUSE,
    "pack nowhere.ckpt --model resnet18 -o out": Exit.MISUSE,
    "summary nowhere.ckpt": Exit.MISUSE,
    "export nowhere --model resnet18 --to onnx -o out": Exit.MISUSE,
    "bench resnet81": Exit.MISUSE,
    "completion tcsh": Exit.MISUSE,
    "bench codes:interrupted": Exit.INTERRUPTED,
    "bench codes:terminated": Exit.TERMINATED,
}


@pytest.mark.parametrize("command", COMMANDS)
def test_verbs_keep_it(folder, capfd, command):
    (folder / "codes.py").write_text(CODE)
    before = signal.getsignal(signal.SIGTERM)
    json = ["--json"] * (command.split()[:1] not in (["--version"], [], ["frobnicate"], ["completion"]))
    assert main([*command.split(), *json]) == COMMANDS[command]
    printed = capfd.readouterr()
    if COMMANDS[command] is Exit.MISUSE:
        assert printed.out == ""
        assert printed.err.count("\n") == 1
    assert signal.getsignal(signal.SIGTERM) is before


def test_the_package_runs_as_a_module():
    run = subprocess.run([sys.executable, "-m", "proxconnect", "--version"], capture_output=True, text=True, check=True)
    assert run.stdout == f"proxconnect {__version__}\n"
