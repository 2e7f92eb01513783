"""`proxconnect demo`: exit codes, one line for each error of a user, and Ctrl-C in a real process."""

import importlib.metadata
import json
import os
import signal
import sys
import time
from pathlib import Path

import pytest

from proxconnect._support import extras
from proxconnect._support.installation import pip_install
from proxconnect.cli.command import main
from training.forks import processes


def test_version_is_that_of_the_package(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.strip() == f"proxconnect {importlib.metadata.version('proxconnect')}"


def test_the_entry_point_is_main():
    (script,) = importlib.metadata.entry_points(group="console_scripts", name="proxconnect")
    assert script.load() is main


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "required: COMMAND"),
        (["demos"], "did you mean 'demo'"),
        (["demo", "--pairs", "bnm++"], "unknown pair 'bnm++': did you mean 'bnn++'"),
        (["demo", "--epochs", "0"], "positive whole number"),
        (["demo", "--seeds", "two"], "positive whole number"),
        (["demo", "--data", "mnist"], "'digits', 'fashion-mnist'"),
        (["demo", "--data", "fashion-mnist", "--root", "nowhere"], "apt install dataset-fashion-mnist"),
    ],
)
def test_errors_of_a_user_are_one_line(capsys, arguments, message):
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.err.count("\n") == 1
    assert captured.out == ""


def test_a_folder_that_cannot_be_made(capsys, tmp_path):
    (tmp_path / "file").touch()
    assert main(["demo", "--out", str(tmp_path / "file" / "folder")]) == 2
    assert str(tmp_path / "file") in capsys.readouterr().err


def test_a_file_in_the_place_of_the_folder(capsys, tmp_path):
    (tmp_path / "file").touch()
    assert main(["demo", "--out", str(tmp_path / "file")]) == 2
    assert "is a file: give a folder" in capsys.readouterr().err


@pytest.mark.parametrize("package", ["matplotlib", "sklearn"])
def test_a_missing_extra_is_one_line_with_its_installation(capsys, absent, tmp_path, package):
    absent(package)
    assert main(["demo", "--out", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert pip_install("demo") in error
    assert error.count("\n") == 1


def test_an_error_inside_an_installed_package_passes_through(monkeypatch, tmp_path):
    (tmp_path / "half_broken.py").write_text("import surely_absent_package\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="surely_absent_package") as error:
        extras.require("half_broken", "train")
    assert not isinstance(error.value, extras.MissingExtraError)


@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGINT to a process group")
def test_ctrl_c_in_a_terminal_ends_workers_and_leaves_what_is_done(tmp_path):
    options = ["demo", "--pairs", "bc", "--modes", "BW", "--seeds", "300", "--epochs", "1", "--workers", "1", "--out"]
    process = processes.Process(target=in_a_terminal, args=(tmp_path / "said", [*options, str(tmp_path / "demo")]))
    process.start()
    try:
        workers = _started_workers(process.pid, 1)
        while not (tmp_path / "demo" / "results.json").exists() and process.is_alive():
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGINT)
        process.join(60)
    finally:
        if process.is_alive():
            os.killpg(process.pid, signal.SIGKILL)
    assert process.exitcode == 130
    said = (tmp_path / "said").read_text()
    assert "of 900 runs are done" in " ".join(said.split())
    assert "Traceback" not in said
    results = json.loads((tmp_path / "demo" / "results.json").read_text())
    assert results["complete"] is False
    assert results["runs"]
    assert not any(Path(f"/proc/{worker}").exists() for worker in workers)


def in_a_terminal(said: Path, arguments: list[str]) -> None:
    """Run the command as the leader of a session, in whose process group a terminal sends SIGINT."""
    os.setsid()
    for stream in (1, 2):
        os.dup2(os.open(said, os.O_CREAT | os.O_WRONLY | os.O_APPEND), stream)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    sys.exit(main(arguments))


def _started_workers(parent: int, count: int) -> list[str]:
    """Wait until `parent` has started `count` spawned workers; their process ids."""
    for _ in range(1200):
        children = Path(f"/proc/{parent}/task/{parent}/children")
        if not children.exists():
            pytest.skip("needs /proc/PID/task/PID/children")
        workers = [c for c in children.read_text().split() if b"spawn_main" in Path(f"/proc/{c}/cmdline").read_bytes()]
        if len(workers) == count:
            return workers
        time.sleep(0.05)
    pytest.fail("the workers never started")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1", "bits must be an integer from 2 to 24"),
        ("x", "a positive whole number is needed"),
        ("8:burst", "overflow must be one of wrap, saturate, cyclic"),
    ],
)
def test_wrong_accumulators_are_one_line(capsys, text, message):
    assert main(["demo", "--accumulator", text]) == 2
    printed = capsys.readouterr().err
    assert message in printed
    assert printed.count("\n") == 1


def test_an_accumulator_for_no_mode_is_refused(capsys, tmp_path):
    assert main(["demo", "--accumulator", "5", "--modes", "BW", "--out", str(tmp_path)]) == 2
    assert "--accumulator is of mode BWAA" in capsys.readouterr().err
