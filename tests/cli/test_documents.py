"""`--json`: stdout is one document, with the keys of docs/json-documents.md and the figures of the text."""

import json
import math
import os
import re
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from checkpoints import CODE, namespace
from rich.console import Console

import proxconnect as pc
from proxconnect.cli.answer import keeping_stdout, print_document
from proxconnect.cli.command import main
from training.forks import fork_workers

PAGE = Path(__file__).parents[2] / "docs" / "json-documents.md"
NOISE = """
import os

print("noise of their module")
os.write(1, b"noise of their libraries")
"""
RECIPE = {
    "data": {"class_path": "Digits", "init_args": {"batch_size": 512}}, "seed_everything": 1,
    "model": {"network": {"name": "small_cnn"}, "binary": {"weights": "bnn"}},
    "trainer": {"max_epochs": 1, "accelerator": "cpu", "default_root_dir": "run", "enable_progress_bar": False},
}  # fmt: skip
"""JSON, which YAML can read."""


def keys(heading: str) -> set[str]:
    """Return the keys that the page lists below a heading."""
    section = PAGE.read_text().partition(f"\n### {heading}\n")[2].partition("\n##")[0]
    found = re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)
    assert len(found) == len(set(found)) > 0
    return set(found)


def parsed(text: str) -> dict:
    """Parse the text as one strict JSON document."""

    def refuse(constant):
        raise AssertionError(f"{constant} is no JSON")

    return json.loads(text, parse_constant=refuse)


@pytest.fixture
def theirs(folder):
    (folder / "theirs.py").write_text(NOISE + CODE.replace("torch.randn(2, 3, 8, 8)", "torch.ones(2, 3, 8, 8)"))
    net = namespace()["net"]
    torch.save(pc.binarize(net(), "bnn++", "bnn").state_dict(), "last.ckpt")
    pc.save(pc.pack(pc.binarize(net(), "bnn", "bnn").eval()), "net.safetensors")
    (folder / "recipe.yaml").write_text(json.dumps(RECIPE))
    return folder


def both(capfd, command: str, status: int = 0) -> tuple[dict, str]:
    """Return the document of a command, and its text."""
    assert main([*command.split(), "--json"]) == status
    found = parsed(capfd.readouterr().out)
    assert main(command.split()) == status
    return found, " ".join(capfd.readouterr().out.split())


TEXTS = {
    "check": ("check bnn+ --mu 2", lambda d: f"{d['verdicts'][0]['pair']}: not legitimate"),
    "pack": ("pack last.ckpt --model theirs:net -o packed", lambda d: f"packed: {d['bytes']:,} bytes, "
             f"{d['float_bytes'] / d['bytes']:.1f} times smaller than the {d['float_bytes']:,} bytes of all float"),
    "summary of a packed file": ("summary net.safetensors", lambda d: f"the file {d['bytes']:,} bytes"),
    "summary of a checkpoint": ("summary last.ckpt", lambda d: f"binary {d['latents']:,} latent weights "
                                f"in {len(d['layers'])} layers, which pack to 1 bit each float "
                                f"{d['float']['numbers']:,} numbers"),
    "summary --model": ("summary net.safetensors --model theirs:net", lambda d: f"{d['binary_macs']:,} of 1-bit "
                        f"weights × 1-bit inputs, {d['float_macs']:,} of float × float"),
    "export": ("export net.safetensors --model theirs:net --to float -o floats", lambda d: f"floats: {d['bytes']:,} "
               f"bytes, {d['bytes'] / d['packed_bytes']:.2f} times the packed file"),
    "bench": ("bench theirs:net --rounds 1 --batch 1", lambda d: f"{d['binary_layers']} of {d['weight_layers']} "
              "layers binary"),
}  # fmt: skip


@pytest.mark.parametrize("heading", TEXTS)
def test_stdout_is_one_document_with_the_figures_of_the_text(theirs, capfd, monkeypatch, heading):
    monkeypatch.setattr("proxconnect.cli.bench.rivals.RIVALS", ())
    monkeypatch.setattr("proxconnect.cli.bench.peak_memory.peaks", lambda *_: "it was not asked")
    command, text_of = TEXTS[heading]
    found, text = both(capfd, command, 1 if heading == "check" else 0)
    assert set(found) == keys(heading)
    assert text_of(found) in text


def test_training_and_measuring(theirs, capfd):
    assert main(["fit", "--config", "recipe.yaml", "--json"]) == 0
    fitted = parsed(capfd.readouterr().out)
    assert set(fitted) == keys("fit, validate, test")
    assert fitted["packed"]["packed_bytes"] == Path(fitted["packed"]["path"]).stat().st_size
    assert main(["validate", "--config", "recipe.yaml", "--ckpt_path", "last", "--json"]) == 0
    printed = capfd.readouterr()
    measured = parsed(printed.out)
    assert set(measured) == set(fitted)
    assert measured["accuracy"] == pytest.approx(fitted["accuracy"], abs=1e-6)
    assert measured["packed"] is None
    assert f"Accuracy of the shipped network {100 * measured['accuracy']:.2f} %" in " ".join(printed.err.split())
    assert main(["fit", "--config", "recipe.yaml", "--json"]) == 2  # a run is there already
    assert capfd.readouterr().out == ""


def test_the_demo_prints_its_results(theirs, capfd, monkeypatch):
    monkeypatch.setattr("proxconnect.cli.demo.demo._draw", lambda _: None)
    monkeypatch.setattr("proxconnect.cli.demo.demo._ship", lambda _: 0)
    fork_workers(monkeypatch)
    options = "demo --pairs bnn --modes BW --starts E2E --seeds 1 --epochs 1 --workers 1 --out demo --json"
    assert main(options.split()) == 0
    printed = capfd.readouterr()
    found = parsed(printed.out)
    assert set(found) == keys("demo")
    assert found == parsed((theirs / "demo" / "results.json").read_text())
    (binary,) = (run for run in found["runs"] if run["pair"] == "bnn")
    assert f"{100 * binary['accuracy']:.2f}" in printed.err


def test_studies(grid, capfd):
    found, text = both(capfd, f"study {grid} --list")
    assert (set(found), len(found["rows"])) == (keys("study --list"), 8)
    assert "8 rows: 8 waiting" in text
    assert {row["state"] for row in found["rows"]} == {"waiting"}
    found, _ = both(capfd, f"study {grid}")
    assert set(found) == keys("study")
    assert (found["rows"], found["done"], found["failed"]) == (8, 8, [])
    found, text = both(capfd, f"study {grid} --tables")
    assert set(found) == keys("study --tables")
    (fp,) = (c for c in found["cells"] if c["setting"]["pair"] == "fp" and c["figure"] == "accuracy.reestimated")
    assert f"{100 * fp['mean']:.2f}" in text
    assert all(d["mean"] is not None and len(d["setting"]) for d in found["differences"])
    assert all(Path(file).exists() for file in found["files"])
    found, text = both(capfd, f"study {grid} --verify 8")
    assert set(found) == keys("study --verify")
    assert {row["reason"] for row in found["rows"]} == {"the same to the bit"}
    found, text = both(capfd, f"study {grid} --only pair=bnn++ --choose pair")
    assert set(found) == keys("study --choose")
    assert found["settings"][0]["mean"] == pytest.approx(
        float(text.partition("the best of 2, ")[2].split()[0]), abs=1e-4
    )


def test_a_row_that_fails_is_in_the_document(grid, capfd, monkeypatch):
    monkeypatch.setattr("fake_rows.run_row", lambda *_: {"accuracy": {"hard": 1.5}})
    assert main(["study", grid, "--json"]) == 1
    found = parsed(capfd.readouterr().out)
    assert (found["rows"], found["done"], len(found["failed"])) == (8, 0, 8)
    assert found["cells"] == []


def test_what_json_has_not_is_null(capsys):
    print_document({"a": math.nan, "b": [math.inf, 1.5, 2, True], "c": {1: Path("x"), "d": (None, "μ")}})
    assert parsed(capsys.readouterr().out) == {"a": None, "b": [None, 1.5, 2, True], "c": {"1": "x", "d": [None, "μ"]}}


@pytest.mark.skipif(sys.platform == "win32", reason="C's streams are reached as on POSIX")
def test_what_c_and_an_older_stream_hold_does_not_come_after_the_document():
    code = """if True:
        import ctypes, sys, types
        from proxconnect.cli.answer import keeping_stdout
        own = sys.stdout
        with keeping_stdout(types.SimpleNamespace(json=True)):
            ctypes.CDLL(None).printf(b"one ")
            own.write("two")
        print("document")
    """
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert run.stdout == "document\n"
    assert "one" in run.stderr
    assert "two" in run.stderr


def test_stdout_is_given_back(capfd):
    class Parsed:
        json = True

    with suppress(ValueError), keeping_stdout(Parsed()):
        os.write(1, b"one")
        Console().print("two")
        raise ValueError
    os.write(1, b"three")
    print("four")
    printed = capfd.readouterr()
    assert (printed.out, printed.err) == ("threefour\n", "onetwo\n")
