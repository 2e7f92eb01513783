"""Is every public name in the reference? Public is what a package names in its `__all__`."""

import functools
import importlib
import pkgutil
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from sphinx.util.inventory import InventoryFile

import proxconnect


def packages() -> Iterator[ModuleType]:
    """Every package with an `__all__`."""
    yield proxconnect
    for found in pkgutil.walk_packages(proxconnect.__path__, "proxconnect."):
        if found.ispkg:
            package = importlib.import_module(found.name)
            if hasattr(package, "__all__"):
                yield package


@functools.cache
def shortest_names() -> dict[int, str]:
    """The shortest public name of each public object, by the object's identity; plain values keep all their names."""
    names: dict[int, str] = {}
    for package in packages():
        for name in package.__all__:
            full = f"{package.__name__}.{name}"
            key = id(getattr(package, name))
            names[key] = min(names.get(key, full), full, key=lambda name: (name.count("."), name))
    return names


def faults(site: Path) -> list[str]:
    """The public names that the site in this folder does not have."""
    inventory = InventoryFile.loads((site / "objects.inv").read_bytes(), uri="")
    described = {name for kind in inventory.data if kind.startswith("py:") for name in inventory.data[kind]}
    return [f"{name} is public, and no page describes it" for name in sorted({*shortest_names().values()} - described)]
