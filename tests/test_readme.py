"""What the README and the package promise in passing."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"


def test_the_flow_of_the_readme_runs_and_is_short(tmp_path, monkeypatch):
    (code,) = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    assert len([line for line in code.splitlines() if line and not line.startswith("import")]) <= 15
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "README.md", "exec"), {})


def test_the_examples_of_the_theory_print_what_it_says(capsys):
    text, names = (ROOT / "docs" / "theory.md").read_text(), {}
    for code in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        exec(compile(code, "theory.md", "exec"), names)
    (shown,) = re.findall(r"```text\n(.*?)```", text, re.DOTALL)
    printed = capsys.readouterr().out
    rounding = r"(?<=relative miss ).*"
    assert re.sub(rounding, "", printed).endswith(re.sub(rounding, "", shown))


def test_the_example_of_training_runs(tmp_path, monkeypatch):
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "training.md").read_text(), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "training.md", "exec"), {})


def test_import_is_light():
    """Nothing is imported but torch and what torch imports."""
    listing = "import sys, torch; before = set(sys.modules); import proxconnect; print(*(set(sys.modules) - before))"
    loaded = subprocess.run([sys.executable, "-c", listing], capture_output=True, text=True, check=True).stdout.split()
    foreign = {"rich", "safetensors", "numpy", "matplotlib", "sklearn", "torchvision", "lightning"}
    assert not foreign & {name.partition(".")[0] for name in loaded}
