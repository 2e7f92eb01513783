"""What the README and the package promise in passing."""

import subprocess
import sys

from checks.pages import ROOT, blocks

README = ROOT / "README.md"


def test_the_flow_of_the_readme_is_short():
    code = next(block.code for block in blocks(README) if block.kind == "python")
    assert len([line for line in code.splitlines() if line and not line.startswith(("import ", "from "))]) <= 15
    assert len(README.read_text().splitlines()) <= 120


def test_import_is_light():
    """Nothing is imported but torch and what torch imports, and of the library no theory and no commands."""
    listing = "import sys, torch; before = set(sys.modules); import proxconnect; print(*(set(sys.modules) - before))"
    loaded = subprocess.run([sys.executable, "-c", listing], capture_output=True, text=True, check=True).stdout.split()
    foreign = {"rich", "safetensors", "numpy", "matplotlib", "sklearn", "torchvision", "lightning"}
    assert not foreign & {name.partition(".")[0] for name in loaded}
    assert not {"proxconnect.theory", "proxconnect.cli"} & set(loaded)
