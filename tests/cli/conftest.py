"""Someone else's code in the current folder, and packages that are not installed."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import proxconnect as pc
from proxconnect.training.study import results, running

STUDY = Path(__file__).parents[1] / "training" / "study"


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """Change to an empty folder, and forget its modules afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]


@pytest.fixture
def absent(monkeypatch) -> Callable[[str], None]:
    """Make a package absent."""

    def make(package: str) -> None:
        for name in [m for m in sys.modules if m.partition(".")[0] == package]:
            monkeypatch.delitem(sys.modules, name)
        monkeypatch.setattr(sys, "meta_path", [_Absent(package), *sys.meta_path])

    return make


@pytest.fixture
def grid(folder, monkeypatch) -> str:
    """A grid in the current folder, whose rows run in this process."""
    monkeypatch.syspath_prepend(STUDY)
    from grids import InTurn, write_grid

    monkeypatch.setattr(running, "Processes", lambda _: InTurn())
    monkeypatch.setattr(results, "_draw", lambda *_: [])
    return str(write_grid(folder))


@pytest.fixture
def llama(folder) -> None:
    """A packed language model in the current folder, the module that builds its network, and its tokenizer."""
    pytest.importorskip("gguf", reason="gguf is in the extra `gguf`")
    from gguf_files import binary, byte_level, language_model

    module = folder / "my_module.py"
    before = module.read_text() if module.exists() else ""
    module.write_text(
        f"from gguf_files import language_model\n{before}\ndef llama():\n    return language_model('llama')"
    )
    pc.save(pc.pack(binary(language_model("llama"))), "llama.safetensors")
    byte_level().save_pretrained("folder")


class _Absent:
    """A finder that finds no module of a package."""

    def __init__(self, package: str) -> None:
        self.package = package

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == self.package:
            raise ModuleNotFoundError(f"No module named {self.package!r}", name=self.package)
