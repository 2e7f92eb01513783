"""Rows run once each, whatever is killed meanwhile: by processes, by Ray, or in turn, the ledger is the same."""

import gc
import io
import json
import multiprocessing
import os
import random
import signal
import sys
import time
import weakref
from pathlib import Path

import fake_rows
import pytest
from grids import GRID, InTurn, write_grid
from rich.console import Console

from proxconnect.training.study import ledger
from proxconnect.training.study import study as module
from proxconnect.training.study.ledger import Ledger
from proxconnect.training.study.rows import CHECKPOINT
from proxconnect.training.study.running import LOG, Order, Processes, perform
from proxconnect.training.study.study import Study
from proxconnect.training.study.yaml_files import GridError

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="locks files by flock")


def study_of(folder: Path, only=(), **changes) -> Study:
    folder.mkdir(exist_ok=True)
    return Study.read(write_grid(folder, **changes), dict(only), work=folder / "work")


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch):
    """Those take longer than rows that train nothing."""
    monkeypatch.setattr(module.results, "_draw", lambda *_: [])


def run(study: Study, crew=InTurn, limit=None):
    """How many rows failed, and what was printed."""
    console = Console(file=io.StringIO(), width=200)
    failures = module.run(study, crew, 1, limit, console)
    return len(failures), console.file.getvalue()


def shown(study: Study):
    """What is printed of the ledger as it is."""
    console = Console(file=io.StringIO(), width=200)
    module.write_results(study, console)
    return console.file.getvalue()


def results(study: Study):
    """What the ledger holds but for times and versions, which are not of the rows."""
    return {e.key: (e.labels, e.measured, e.configuration, e.after) for e in ledger.read(study.ledger)}


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    study = study_of(tmp_path_factory.mktemp("unbroken"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module.results, "_draw", lambda *_: [])
        assert run(study)[0] == 0
    return results(study)


def test_a_row_is_one_line_of_the_ledger(unbroken, tmp_path):
    assert len(unbroken) == 8
    study = study_of(tmp_path)
    run(study)
    for row, line in zip(study.rows, study.ledger.read_text().splitlines(), strict=True):
        content = json.loads(line)
        assert content["key"] == row.key
        assert content["configuration"] == row.configuration
        assert set(content["measured"]["accuracy"]) == {"soft", "hard", "reestimated"}
        assert content["versions"]["threads"] == 1
        assert content["started"] <= content["finished"]


def test_what_is_finished_never_runs_again(tmp_path):
    study = study_of(tmp_path)
    assert run(study, limit=3)[0] == 0
    assert len(results(study)) == 3
    before = study.ledger.read_text()
    failed, printed = run(study)
    assert failed == 0
    assert "3 of 8 rows are done, 5 to run" in printed
    assert study.ledger.read_text().startswith(before)
    assert "0 to run" in run(study)[1]


@pytest.mark.parametrize("lost", ["*", CHECKPOINT], ids=["the folder", "the checkpoint alone"])
def test_a_checkpoint_that_is_gone_is_made_again_and_only_that(tmp_path, unbroken, lost):
    study = study_of(tmp_path, {"start": ["E2E"]})
    run(study)
    origin = next(row for row in study.rows if row.labels["pair"] == "fp")
    before = study.ledger.read_text()
    for file in study.workplace.folder(origin).glob(lost):
        file.unlink()
    whole = study_of(tmp_path)
    failed, printed = run(whole)
    assert failed == 0
    assert "3 to run, 1 of them again for their checkpoints" in printed
    assert whole.ledger.read_text().startswith(before)
    assert results(whole) == unbroken


def test_a_row_that_is_wanted_brings_the_one_that_it_starts_from(tmp_path, unbroken):
    study = study_of(tmp_path, {"start": ["FT"], "seed": ["1"]})
    run(study)
    assert {labels["start"] for labels, *_ in results(study).values()} == {"E2E", "FT"}
    assert results(study).items() <= unbroken.items()


def test_killed_at_random_moments_the_ledger_is_the_same(tmp_path, unbroken):
    study = study_of(tmp_path)
    choice, kills, context = random.Random(0), 0, multiprocessing.get_context("fork")
    while True:
        process = context.Process(target=_slowly, args=(study,))
        process.start()
        process.join(choice.uniform(0.02, 0.25) if kills < 10 else None)
        if process.exitcode is not None:
            break
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        kills += 1
    assert kills >= 5
    assert process.exitcode == 0
    assert results(study) == unbroken
    assert len(study.ledger.read_text().splitlines()) == 8


def _slowly(study: Study) -> None:
    """The whole study with a pause in each step, which is not of the configuration."""
    fake_rows.time.sleep, sleep = lambda _: sleep(0.02), time.sleep
    sys.exit(run(study)[0])


def test_processes_give_the_same_and_a_row_that_fails_holds_up_no_other(tmp_path, unbroken):
    pairs = GRID["axes"]["pair"] | {"bc": {"fails": True}, "pc": {"dies": True}}
    blocks = [*GRID["blocks"], {"pair": ["bc", "pc"], "mode": "BW", "seed": 0, "start": "E2E"}]
    study = study_of(tmp_path, axes=GRID["axes"] | {"pair": pairs}, blocks=blocks)
    failed, printed = run(study, lambda: Processes(2))
    assert failed == 2
    assert results(study) == unbroken
    assert "seed 0 bc BW E2E: failed: RuntimeError: no such data set" in printed
    assert "seed 0 pc BW E2E: failed: a worker process died with exit code 9" in printed
    failed = [row for row in study.rows if study.workplace.state(row, results(study)) == "failed"]
    assert [row.labels["pair"] for row in failed] == ["bc", "pc"]
    assert "no such data set" in study.workplace.error(failed[0]).read_text()
    assert (study.workplace.folder(failed[0]) / LOG).exists()


def test_what_starts_from_a_failed_row_waits_and_all_is_tried_again(tmp_path, unbroken, monkeypatch):
    study = study_of(tmp_path)
    real = fake_rows.run_row

    def without_fp(configuration, *rest):
        if configuration["model"]["weights"] == "fp":
            raise RuntimeError
        return real(configuration, *rest)

    monkeypatch.setattr(fake_rows, "run_row", without_fp)
    failed, printed = run(study)
    assert failed == 4
    assert len(results(study)) == 4
    assert "failed: seed 0 bnn++ BW FT (waits for seed 0 fp float E2E)" in printed
    monkeypatch.setattr(fake_rows, "run_row", real)
    assert run(study)[0] == 0
    assert results(study) == unbroken
    assert {study.workplace.state(row, results(study)) for row in study.rows} == {"done"}


def test_a_worker_that_lost_its_driver_leaves_a_row_that_goes_on(tmp_path):
    study = study_of(tmp_path, {"start": ["E2E"], "pair": ["fp"], "seed": ["0"]}, base={"pause": 0.1})
    context = multiprocessing.get_context("fork")
    process = context.Process(target=lambda: run(study, lambda: Processes(1)))
    process.start()
    (row,) = study.rows
    checkpoint = study.workplace.folder(row) / CHECKPOINT
    deadline = time.monotonic() + 60
    while not checkpoint.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    process.kill()
    process.join()
    assert study.workplace.state(row, ()) == "half"
    assert run(study)[0] == 0
    (entry,) = ledger.read(study.ledger)
    assert entry.measured["steps"] == fake_rows.STEPS
    assert json.loads(checkpoint.read_text())["done"] == fake_rows.STEPS


def test_the_line_of_a_row_whose_driver_was_killed_before_it_heard(tmp_path, unbroken, monkeypatch):
    study = study_of(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "append", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            run(study)
    first, real, again = study.rows[0], fake_rows.run_row, []
    monkeypatch.setattr(fake_rows, "run_row", lambda c, folder, p: again.append(folder.name) or real(c, folder, p))
    run(study)
    assert results(study) == unbroken
    assert first.key not in again


def test_a_row_that_measures_nothing_fails(tmp_path, monkeypatch):
    monkeypatch.setattr(fake_rows, "run_row", lambda *_: {"accuracy": {"hard": 1.5}})
    failed, printed = run(study_of(tmp_path))
    assert failed == 8
    assert "the accuracy 'hard' is 1.5, which is not in [0, 1]" in printed


def test_a_row_leaves_nothing_in_the_memory_of_its_worker(tmp_path, monkeypatch):
    class Run:
        pass

    def run_row(*_):
        run = Run()
        run.itself = run
        held.append(weakref.ref(run))
        return {"accuracy": {"hard": 0.5}}

    held = []
    monkeypatch.setattr(fake_rows, "run_row", run_row)
    study = study_of(tmp_path)
    gc.disable()
    try:
        perform(Order(study.rows[0], study.workplace, 1), lambda _: None)
        assert [one() for one in held] == [None]
    finally:
        gc.enable()


def test_two_studies_do_not_mix(tmp_path):
    study = study_of(tmp_path)
    with Ledger.writing(study.ledger), pytest.raises(BlockingIOError, match=r"another study writes .*--folder"):
        run(study)


def test_tables_are_of_the_grid_as_it_is_and_say_where_rows_are_not(tmp_path):
    first = study_of(tmp_path)
    run(first)
    floats = [{"pair": "fp", "mode": "float", "start": "E2E"}]
    longer = study_of(tmp_path, base={"trainer": {"max_epochs": 4}}, blocks=floats)
    assert "2 rows are of other settings, or an older version, than grid.yaml now has, as seed 0 fp" in shown(longer)
    assert "of other settings" not in run(longer)[1]
    newest = [entry.key for entry in longer.entries() if entry.labels["pair"] == "fp"]
    assert newest == [row.key for row in longer.rows]
    again = study_of(tmp_path)
    assert {entry.key for entry in again.entries()} == {row.key for row in first.rows}
    assert "of other settings" not in shown(again)


def test_a_row_that_the_ledger_calls_otherwise_is_refused(tmp_path):
    run(study_of(tmp_path))
    pairs = {("bnn-plus" if name == "bnn+" else name): change for name, change in GRID["axes"]["pair"].items()}
    blocks = [{"pair": "bnn-plus", "mode": "BW", "start": "E2E"}]
    renamed = study_of(tmp_path, axes=GRID["axes"] | {"pair": pairs}, blocks=blocks, compare={})
    with pytest.raises(GridError, match=r"'seed 0 bnn-plus BW E2E' is in the ledger as 'seed 0 bnn\+ BW E2E'"):
        run(renamed)


def test_a_callable_that_is_not_there_stops_before_any_row(tmp_path):
    with pytest.raises(GridError, match="'fake_rows:run_rows'"):
        run(study_of(tmp_path, run="fake_rows:run_rows"))
    with pytest.raises(GridError, match="No module named 'fake'"):
        run(study_of(tmp_path, run="fake:run_rows"))
    with pytest.raises(GridError, match="'fake_rows:STEPS' is of type int: name a callable"):
        run(study_of(tmp_path, run="fake_rows:STEPS"))
    with pytest.raises(GridError, match="invalid format: '3:run_rows'"):
        run(study_of(tmp_path, run="3:run_rows"))
    assert not (tmp_path / "ledger.jsonl").exists()


def test_the_checkpoint_is_the_one_that_training_writes():
    from proxconnect.training.checkpoints import LAST

    assert LAST == CHECKPOINT
