"""The whole demo on a piece of the digits, its files read back, and its end by Ctrl-C."""

import io
import json
import re
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch
from rich.console import Console
from small import some_digits

from proxconnect._support.termination import TerminatedError
from proxconnect.cli.answer import RunError
from proxconnect.cli.demo import demo as module
from proxconnect.cli.demo import experiment
from proxconnect.cli.demo import shipment as shipping
from proxconnect.cli.demo.experiment import ARCHITECTURES, Run
from proxconnect.deploy.packed import load_layers
from proxconnect.inspection import summary
from proxconnect.layers import Accumulator
from proxconnect.training import data
from proxconnect.training.models.residual import small_cnn
from proxconnect.training.study.ledger import Entry
from training.forks import fork_workers
from training.study.grids import InTurn

FILES = {"results.json", "curves.png", "weights.png", "pairs.png", "best.safetensors"}


def options(out: Path, **changes) -> module.Options:
    few = module.Options(pairs=("bnn++",), modes=("BW",), seeds=1, epochs=1, out=out)
    return replace(few, **changes)


def console() -> Console:
    return Console(file=io.StringIO(), width=80)


def read(path: Path) -> dict:
    return json.loads((path / "results.json").read_text(encoding="utf-8"))


def digits_tested_whole():
    """Few to train on, but all to test on, as a fresh process does."""
    few = some_digits()
    return replace(data.load("digits"), train_images=few.train_images, train_labels=few.train_labels)


@contextmanager
def here(dataset):
    """Runs in this process, on these pictures."""
    with pytest.MonkeyPatch.context() as patch:
        fork_workers(patch)
        patch.setattr(module, "Processes", lambda _: InTurn())
        patch.setattr(data, "load", lambda *_: dataset)
        yield


def demo(chosen, screen, dataset):
    with here(dataset):
        return module.demo(chosen, screen)


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A finished demo: its exit code, what it printed, its folder."""
    folder, screen = tmp_path_factory.mktemp("demo") / "new" / "folder", console()
    code = demo(options(folder), screen, digits_tested_whole())
    return code, screen.file.getvalue(), folder


@pytest.fixture
def without_pictures(monkeypatch):
    """No pictures, which the demo of `done` draws."""
    monkeypatch.setattr(module.plots, "save", lambda figure, path: None)


def test_the_demo_writes_every_file(done):
    code, printed, folder = done
    assert code == 0
    assert {p.name for p in folder.iterdir()} == FILES
    for name in ("curves.png", "weights.png", "pairs.png"):
        assert (folder / name).read_bytes().startswith(b"\x89PNG\r\n")
    assert "Loaded in a fresh process: the same class for each of 450 test images" in printed
    assert re.search(r"One image on one thread: [\d.]+ ms float, [\d.]+ ms packed \([\d.]+x (fast|slow)er\)", printed)
    assert max(map(len, printed.splitlines())) <= 80


def test_results_hold_every_run(done):
    results = read(done[2])
    assert results["complete"] is True
    runs = [(r["pair"], r["mode"], r["start"], r["seed"]) for r in results["runs"]]
    assert runs == [("fp", "float", "E2E", 0), ("bnn++", "BW", "E2E", 0), ("bnn++", "BW", "FT", 0)]
    assert all(0 <= r["accuracy"] <= 1 and r["seconds"] > 0 and len(r["epochs"]) == 1 for r in results["runs"])
    assert results["versions"]["torch"] == torch.__version__
    assert results["arguments"]["recipe"]["epochs"] == 1


def test_sizes_are_those_of_the_files_and_of_the_architecture(done):
    best = read(done[2])["best"]
    binary = [block.conv.weight for block in small_cnn().stages]
    assert best["packed_file"] == (done[2] / "best.safetensors").stat().st_size
    assert best["float_bytes"] == summary(small_cnn()).float_bytes
    assert best["binary_float"] == 4 * sum(w.numel() for w in binary)
    assert best["binary_float"] == 32 * best["binary_bits"]
    assert best["binary_scales"] == 4 * sum(w.shape[0] for w in binary)


def test_the_latencies_are_said_as_they_are(done):
    shipment = read(done[2])["best"]
    assert shipment["float_latency"] > 0
    assert shipment["packed_latency"] > 0
    names = {field.name for field in fields(shipping.Shipment)}
    slower = shipping.Shipment(**{n: shipment[n] for n in names} | {"float_latency": 0.001, "packed_latency": 0.002})
    assert "1.000 ms float, 2.000 ms packed (2.00x slower)" in "".join(slower.lines("file"))
    faster = replace(slower, packed_latency=0.0004)
    assert "0.400 ms packed (2.50x faster)" in "".join(faster.lines("file"))


def test_the_file_loads_into_the_architecture_built_by_code(done):
    model = load_layers(done[2] / "best.safetensors", ARCHITECTURES["digits"]())
    assert model(torch.zeros(1, 1, 8, 8)).shape == (1, 10)


@pytest.mark.usefixtures("without_pictures")
def test_other_answers_are_found_and_fail(tmp_path, monkeypatch):
    def other_file(path, name, root):
        model = load_layers(path, ARCHITECTURES["digits"]())
        bits = next(module for name, module in model.named_modules() if name == "stages.0.conv").bits
        bits[0] ^= 1
        return torch.cat([model(x) for x in some_digits().test_images.split(10)])

    monkeypatch.setattr(shipping, "_answers_elsewhere", other_file)
    screen = console()
    assert demo(options(tmp_path, starts=("E2E",)), screen, some_digits()) == 1
    assert "DIFFERENT" in screen.file.getvalue()
    assert read(tmp_path)["best"]["same"] is False


@pytest.mark.parametrize("runs_done", [0, 2])
@pytest.mark.parametrize(("stop", "status"), [(KeyboardInterrupt, 130), (TerminatedError, 143)], ids=["INT", "TERM"])
def test_ctrl_c_and_sigterm_keep_what_is_done_and_what_was_there(tmp_path, monkeypatch, runs_done, stop, status):
    real, calls = experiment.train, []

    def interrupted(*args, **kwargs):
        if len(calls) == runs_done:
            raise stop
        calls.append(args)
        return real(*args, **kwargs)

    for name in ("best.safetensors", "results.json"):
        (tmp_path / name).write_text("of an earlier demo")
    monkeypatch.setattr(experiment, "train", interrupted)
    screen = console()
    assert demo(options(tmp_path), screen, some_digits()) == status
    assert (tmp_path / "best.safetensors").read_text() == "of an earlier demo"
    if runs_done:
        assert read(tmp_path)["complete"] is False
        assert len(read(tmp_path)["runs"]) == runs_done
    else:
        assert (tmp_path / "results.json").read_text() == "of an earlier demo"
    printed = screen.file.getvalue()
    assert f"{runs_done} of 3 runs are done" in printed.replace("\n", " ")
    assert ("Test accuracy" in printed) == bool(runs_done)


def entry(after: float, before: float) -> Entry:
    measured = {"accuracy": {"reestimated": after, "hard": before}}
    return Entry("", {}, measured, {}, "", "", "", None, {})


def test_the_widest_table_fits_80_columns_and_shows_mean_and_sd():
    runs = {
        Run("binaryrelax", mode, start, seed): entry(1.0 - 0.1 * seed, 0.9)
        for mode in ("BW", "BWA", "BWAA")
        for start in ("E2E", "FT")
        for seed in range(3)
    }
    screen = console()
    screen.print(module.accuracy_table(runs, ["binaryrelax"]))
    lines = screen.file.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    assert any(line.count("90.0±10.0") == 6 for line in lines)
    assert any(line.count("90.0±0.0") == 6 for line in lines)
    assert module.spread([], "hard", 2) == "-"
    assert module.spread([entry(0.5, 0.5)], "hard", 2) == "50.00"


@pytest.mark.usefixtures("without_pictures")
def test_the_accumulator_is_in_the_runs_the_table_and_the_results(tmp_path, monkeypatch):
    def answers_here(path, name, root):
        return experiment.answers(load_layers(path, ARCHITECTURES[name]()), data.load(name, root).test_images)

    monkeypatch.setattr(shipping, "_answers_elsewhere", answers_here)  # another test starts the fresh process
    chosen = options(tmp_path, modes=("BWA", "BWAA"), starts=("E2E",), accumulator=Accumulator(5, "saturate"))
    assert [run.accumulator for run in chosen.runs] == [None, None, Accumulator(5, "saturate")]
    screen = console()
    assert demo(chosen, screen, digits_tested_whole()) == 0
    printed = screen.file.getvalue()
    assert "BWAA E2E" in printed
    assert "BWAA: BWA, with integer sums kept by this accumulator: 5-bit saturate." in printed
    assert read(tmp_path)["runs"][2]["accumulator"]["bits"] == 5


@pytest.mark.usefixtures("without_pictures")
def test_a_loss_that_diverged_is_null(tmp_path, monkeypatch):
    monkeypatch.setattr(experiment.math, "fsum", lambda _: float("nan"))
    monkeypatch.setattr(module, "_ship", lambda _: 0)
    assert demo(options(tmp_path, starts=("E2E",)), console(), some_digits()) == 0
    assert {epoch["loss"] for run in read(tmp_path)["runs"] for epoch in run["epochs"]} == {None}


def test_a_run_that_fails_ends_the_demo_with_its_error(tmp_path, monkeypatch):
    def failing(*_, **__):
        raise ValueError("no such thing")

    monkeypatch.setattr(experiment, "train", failing)
    with pytest.raises(RunError, match=r"(?s)fp, seed 0 failed in a worker process.*ValueError: no such thing$"):
        demo(options(tmp_path), console(), some_digits())


def test_what_json_has_not_is_null_in_the_results(tmp_path):
    module.write_json(
        {"loss": float("nan"), "best": [float("inf"), Run("bc", "BW", "E2E", 0)]}, tmp_path / "results.json"
    )
    run = {"pair": "bc", "mode": "BW", "start": "E2E", "seed": 0, "accumulator": None}
    assert read(tmp_path) == {"loss": None, "best": [None, run]}
