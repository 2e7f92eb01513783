"""The version stands in four files, which agree."""

import re
import tomllib
from pathlib import Path

import proxconnect

ROOT = Path(__file__).parents[1]


def test_all_files_state_one_version():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    citation = re.search(r"^version: (.*)$", (ROOT / "CITATION.cff").read_text(), re.MULTILINE)
    newest = re.search(r"^## (\S+)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert citation
    assert newest
    assert [proxconnect.__version__, citation[1], newest[1]] == [project] * 3
