"""What the README promises in passing."""

from checks.pages import ROOT, blocks

README = ROOT / "README.md"


def test_the_flow_of_the_readme_is_short():
    code = next(block.code for block in blocks(README) if block.kind == "python")
    assert len([line for line in code.splitlines() if line and not line.startswith(("import ", "from "))]) <= 15
    assert len(README.read_text().splitlines()) <= 120
