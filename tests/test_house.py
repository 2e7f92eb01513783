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


FOREIGN = {
    "lightning", "matplotlib", "numpy", "rich", "safetensors", "sklearn", "timm", "torchvision", "transformers",
    "triton",
}  # fmt: skip
LATER = {f"proxconnect.{name}" for name in ("cli", "export", "huggingface", "theory", "training")}

FRESH = """
import sys, torch
before = set(sys.modules)
import proxconnect as pc
print(*(set(sys.modules) - before))
print('theory' in dir(pc), pc.theory.correct('bnn+').name, pc.export, pc.training)
"""


@pytest.fixture(scope="module")
def fresh() -> list[str]:
    """Return a line of modules that `import proxconnect` loads after torch, and one about its subpackages."""
    ran = subprocess.run([sys.executable, "-c", FRESH], capture_output=True, text=True, check=True)
    return ran.stdout.splitlines()


def test_import_is_light(fresh):
    """Nothing is imported but torch and what torch imports, and of the library no theory and no commands."""
    loaded = fresh[0].split()
    assert "proxconnect.layers" in loaded
    assert not LATER & set(loaded)
    assert not FOREIGN & {name.partition(".")[0] for name in loaded}


def test_subpackages_are_there_without_an_import_of_their_own(fresh):
    assert fresh[1].startswith("True bnn++ <module 'proxconnect.export'")
    wrong = "theori"
    with pytest.raises(AttributeError, match=f"module 'proxconnect' has no attribute '{wrong}'"):
        getattr(proxconnect, wrong)
