"""Closed and full streams, widths that no terminal has, crashes, and Ctrl-C while torch is imported."""

import os
import signal
import subprocess
import sys

import pytest
import stream_cases

from proxconnect._support import termination
from proxconnect.cli.command import main
from proxconnect.cli.parser import Exit
from proxconnect.cli.verbs import check


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_streams_that_are_closed_or_full(tmp_path):
    log, found = tmp_path / "log", {}
    for command, _ in stream_cases.CASES:
        log.write_text("")
        found[command] = stream_cases.run(command, log), log.read_text()
    assert {command: code for command, (code, _) in found.items()} == dict(stream_cases.CASES)
    full = "proxconnect: stdout cannot be written (No space left on device): send it elsewhere\n"
    for command, (code, said) in found.items():
        assert "Traceback" not in said
        if code == 2 and command.endswith(" >/dev/full"):
            assert said == full
        if code == 141:
            assert said == ""


def test_a_crash_has_a_code_of_its_own(capsys, monkeypatch):
    def crash(*_):
        raise RuntimeError("a defect")

    monkeypatch.setattr(check, "subject", crash)
    assert main(["check", "bnn"]) == Exit.CRASHED == 70
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("Traceback")
    assert said.err.endswith("RuntimeError: a defect\n")


@pytest.mark.parametrize("columns", ["0", "1", "7"])
@pytest.mark.parametrize("command", ["check bnn", "check --help", "fit --help"])
def test_a_width_that_no_terminal_has(columns, command, capsys, monkeypatch):
    if command == "fit --help":
        pytest.importorskip("lightning")
    monkeypatch.setenv("COLUMNS", columns)
    assert main(command.split()) == 0
    assert max(map(len, capsys.readouterr().out.splitlines())) > 60


@pytest.mark.skipif(sys.platform == "win32", reason="a process that a signal ends")
@pytest.mark.parametrize(
    ("arguments", "is_traced"),
    [(["-m", "proxconnect", "check", "bnn"], False), (["bin/proxconnect"], False), (["train.py"], True)],
)
def test_ctrl_c_while_torch_is_imported(arguments, is_traced, tmp_path):
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text("import signal\nsignal.raise_signal(signal.SIGINT)\n")
    (tmp_path / "bin").mkdir()
    for script in ("bin/proxconnect", "train.py"):
        (tmp_path / script).write_text("import proxconnect\n")
    source = os.path.dirname(os.path.dirname(os.path.dirname(termination.__file__)))
    run = subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, check=False, cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{source}"},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip
    assert run.returncode == -signal.SIGINT
    assert ("Traceback" in run.stderr) is is_traced
    assert bool(run.stderr) is is_traced


def test_after_the_imports_ctrl_c_is_an_exception_again():
    with termination.handling(signal.SIGINT, signal.SIG_DFL):
        with termination.interruptible():
            assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        assert signal.getsignal(signal.SIGINT) is signal.SIG_DFL
