"""The laws of the house: imports have no cycles, modules are not shadowed, the core is light and knows no training."""

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import proxconnect

SOURCE = Path(__file__).parents[1] / "src"
MODULES = {".".join(path.with_suffix("").parts).removesuffix(".__init__"): SOURCE / path
           for path in (found.relative_to(SOURCE) for found in SOURCE.rglob("*.py"))}  # fmt: skip
ROOMS = (
    "_support cli conversion deploy export gpu huggingface inspection kernels layers optim pairs quantizer theory "
    "training"
)


def parsed(module: str) -> ast.Module:
    return ast.parse(MODULES[module].read_text(encoding="utf-8"))


def imported(module: str) -> set[str]:
    """The modules of the package that a module imports, also inside functions, but not for annotations alone."""
    nodes = list(ast.walk(parsed(module)))
    blocks = [node for node in nodes if isinstance(node, ast.If)]
    typing = {line for block in blocks if "TYPE_CHECKING" in ast.unparse(block.test)
              for line in range(block.lineno, (block.end_lineno or 0) + 1)}  # fmt: skip
    names = set()
    for node in nodes:
        if isinstance(node, ast.Import) and node.lineno not in typing:
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.lineno not in typing:
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            names |= {name if name in MODULES else str(node.module) for name in inner}
    return names & set(MODULES)


def room(module: str) -> str:
    return [*module.split("."), module][1]


def test_the_top_level_holds_rooms_and_nothing_loose():
    assert {room(module) for module in MODULES} == {*ROOMS.split(), "proxconnect", "__main__", "version"}


def test_no_imports_have_a_cycle_neither_of_files_nor_of_rooms():
    graph = {module: imported(module) for module in MODULES}
    TopologicalSorter(graph).prepare()  # CycleError names a cycle
    rooms = {room(module): set() for module in MODULES}
    for module, others in graph.items():
        rooms[room(module)] |= {room(other) for other in others} - {room(module)}
    TopologicalSorter(rooms).prepare()
    assert all(rooms[lower].isdisjoint({"training", "cli"}) for lower in set(rooms) - {"training", "cli", "__main__"})
    assert "cli" not in rooms["training"]


def test_no_module_is_shadowed_by_another_name_of_its_package():
    for package in (module for module, path in MODULES.items() if path.name == "__init__.py"):
        imports = [node for node in ast.walk(parsed(package)) if isinstance(node, ast.ImportFrom)]
        bound = {f"{package}.{alias.asname or alias.name}": f"{node.module}.{alias.name}"
                 for node in imports for alias in node.names}  # fmt: skip
        assert [name for name, origin in bound.items() if name in MODULES and origin != name] == []


def test_subpackages_are_there_without_an_import_of_their_own():
    code = (
        "import proxconnect as pc; print('theory' in dir(pc), pc.theory.correct('bnn+').name, pc.export, pc.training)"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.startswith("True bnn++ <module 'proxconnect.export'")
    wrong = "theori"
    with pytest.raises(AttributeError, match=f"module 'proxconnect' has no attribute '{wrong}'"):
        getattr(proxconnect, wrong)


def test_the_core_imports_none_of_the_heavy_libraries():
    code = "import sys, torch; before = set(sys.modules); import proxconnect; print(*(set(sys.modules) - before))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {f"proxconnect.{name}" for name in ("export", "huggingface", "theory", "training")} & set(loaded)
    assert not {name.partition(".")[0] for name in loaded} & {
        "lightning",
        "numpy",
        "timm",
        "transformers",
        "matplotlib",
        "triton",
    }
