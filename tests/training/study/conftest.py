"""What tests of the studies' own code share."""

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.fixture
def in_the_repository(monkeypatch):
    """Let `import studies` find the code of the studies, and forget it afterwards."""
    monkeypatch.syspath_prepend(str(ROOT))
    yield
    for name in [name for name in sys.modules if name.split(".")[0] == "studies"]:
        del sys.modules[name]
