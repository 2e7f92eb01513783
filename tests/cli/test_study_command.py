"""`proxconnect study`: all its options, on rows that train nothing, and errors in one line."""

import signal
from pathlib import Path

import pytest

from proxconnect.cli.command import main


def test_from_the_list_to_the_check(grid, folder, capsys):
    assert main(["study", grid, "--list"]) == 0
    assert "8 rows: 8 waiting" in capsys.readouterr().out
    assert main(["study", grid, "--only", "pair=fp", "seed=0,1", "--limit", "1"]) == 0
    assert main(["study", grid]) == 0
    printed = capsys.readouterr().out
    assert "1 of 8 rows are done, 7 to run" in printed
    assert "Differences in points of accuracy: BW E2E" in printed
    assert "bnn++ against bnn+" in printed
    assert {p.name for p in folder.iterdir()} >= {"ledger.jsonl", "tables.md", "cells.csv", "differences.csv", "runs"}
    (folder / "tables.md").unlink()
    assert main(["study", grid, "--tables"]) == 0
    assert (folder / "tables.md").exists()
    assert main(["study", grid, "--list", "--only", "start=FT"]) == 0
    assert "2 rows: 2 done" in capsys.readouterr().out
    assert main(["study", grid, "--list", "--only", "start=FT", "--only", "seed=0", "--only", "start=E2E"]) == 0
    assert "4 rows: 4 done" in capsys.readouterr().out
    assert main(["study", grid, "--verify", "8"]) == 0
    assert capsys.readouterr().out.count("the same to the bit") == 8


@pytest.mark.parametrize(("sent", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["INT", "TERM"])
def test_ctrl_c_and_sigterm_say_what_is_done(grid, monkeypatch, capsys, sent, status):
    import fake_rows

    real, calls = fake_rows.run_row, []

    def interrupted(*arguments):
        calls.append(arguments)
        if len(calls) == 3:
            signal.raise_signal(sent)
        return real(*arguments)

    monkeypatch.setattr(fake_rows, "run_row", interrupted)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # what a shell starts aside ignores it
    assert main(["study", grid]) == status
    signal.signal(signal.SIGINT, before)
    assert "stopped: 2 of 8 rows are done; the same command goes on" in capsys.readouterr().out
    assert main(["study", grid]) == 0
    assert "2 of 8 rows are done, 6 to run" in capsys.readouterr().out


def test_a_row_that_comes_out_otherwise_is_found(grid, capsys, monkeypatch):
    assert main(["study", grid, "--only", "pair=fp"]) == 0
    monkeypatch.setattr("fake_rows.run_row", lambda *_: {"accuracy": {"reestimated": 0.1}})
    assert main(["study", grid, "--verify", "--only", "pair=fp"]) == 1
    printed = " ".join(capsys.readouterr().out.split())
    assert "DISAGREES: seed 0 fp float E2E: 79.74 % then, 10.00 % now, outside" in printed


def test_the_best_settings_are_written_beside_the_grid(grid, folder, capsys):
    assert main(["study", grid]) == 0
    assert main(["study", grid, "--only", "pair=bnn++", "--choose", "pair"]) == 0
    assert "bnn++: E2E, the best of 2, 0.7997" in capsys.readouterr().out
    assert (folder / "tuned.yaml").exists()
    assert main(["study", grid, "--only", "start=E2E", "mode=BW", "--choose", "pair"]) == 2
    assert "the rows differ in nothing but pair and seeds" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere.yaml"], "cannot read nowhere.yaml"),
        (["grid.yaml", "--only", "pear=fp"], "unknown axis in --only 'pear': did you mean 'pair'?"),
        (["grid.yaml", "--only", "pair"], "'pair' is no AXIS=LABEL"),
        (["grid.yaml", "--only", "pair=bnn,mode=BW"], "names two axes: put a space between them"),
        (["grid.yaml", "--on", "slurm"], "not 'slurm'"),
        (["grid.yaml", "--tables"], "has no rows yet: run the grid first"),
        (["grid.yaml", "--verify"], "none of these rows is in"),
        (["grid.yaml", "--choose", "pair"], "8 of 8 rows are not finished"),
        (["grid.yaml", "--list", "--tables"], "not allowed with"),
        (["grid.yaml", "--work", "grid.yaml"], "grid.yaml"),
    ],
)
def test_errors_are_one_line(grid, capsys, arguments, message):
    assert main(["study", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("option", ["--work", "--folder"])
def test_a_folder_that_cannot_be_written_is_refused_before_any_row(option, grid, capsys):
    Path("file").touch()
    assert main(["study", grid, option, "file"]) == 2
    assert f"file is a file: give a folder with {option}" in capsys.readouterr().err
    Path("taken", "ledger.jsonl").mkdir(parents=True)
    assert main(["study", grid, "--folder", "taken"]) == 2
    assert "directory" in capsys.readouterr().err
