"""Has every Python process of a row load the kernels whose AMX tiles are software; Python imports it at its start."""

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path

FOLDER = Path(__file__).parents[3] / "build" / "emulated"


class _Finder(MetaPathFinder):
    def find_spec(self, name: str, path: Sequence[str] | None, target: object = None) -> ModuleSpec | None:
        if name != "proxconnect.kernels":
            return None
        sys.meta_path.remove(self)
        found = find_spec(name)
        assert found is not None
        assert found.submodule_search_locations is not None
        found.submodule_search_locations.insert(0, str(FOLDER))
        return found


sys.meta_path.insert(0, _Finder())
