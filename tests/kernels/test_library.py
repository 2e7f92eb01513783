"""The compiled library: which one is loaded."""

import ctypes
import shutil
from pathlib import Path

import pytest

from proxconnect import kernels
from proxconnect.kernels import library

pytestmark = pytest.mark.skipif(not kernels.is_built(), reason="the kernels were not built")


def another(folder: Path) -> ctypes.CDLL:
    """Load a copy of the library, which has its own state."""
    loaded = ctypes.CDLL(str(shutil.copy(Path(kernels.__path__[0]) / library.FILE, folder)))
    library._require_same_interface(loaded)
    return loaded


def test_other_structures_are_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Each structure with any one of its fields wider, or without the last."""
    structures, loaded = library._STRUCTURES, another(tmp_path)
    for place, structure in enumerate(structures):
        fields = structure._fields_
        wider = [(*fields[:i], (field[0], ctypes.c_int64 * 9), *fields[i + 1 :]) for i, field in enumerate(fields)]
        for changed in [*wider, fields[:-1]]:
            other = type("Other", (ctypes.Structure,), {"_fields_": changed})
            monkeypatch.setattr(library, "_STRUCTURES", (*structures[:place], other, *structures[place + 1 :]))
            with pytest.raises(RuntimeError, match=r"built from other sources .* install proxconnect again"):
                library._require_same_interface(loaded)


def test_a_library_without_a_function_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    loaded = another(tmp_path)
    monkeypatch.setitem(library._ARGUMENTS, "px_of_tomorrow", ())
    with pytest.raises(RuntimeError, match="built from other sources"):
        library._require_same_interface(loaded)
