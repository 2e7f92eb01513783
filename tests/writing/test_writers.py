"""Every file that the library writes is the old one or the new one, whole, whatever happens meanwhile."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import proxconnect
from writing.faults import compiler

SOURCES = Path(proxconnect.__file__).parent

WRITING = {"write_text", "write_bytes", "savefig", "save_file", "serialize", "touch", "truncate"}
"""Methods that write."""

OTHERWISE = {
    "_support/atomic.py": "the replacing itself",
    "cli/bench/benchmark.py": "a folder of its own that is deleted",
    "cli/bench/peak_memory.py": "a folder of its own that is deleted",
    "cli/bench/rivals/llama_cpp.py": "the log of a process, in a temporary folder",
    "cli/bench/rivals/llama_cpp_process.py": "the pipe of its answers",
    "cli/streams.py": "the null device",
    "deploy/packed/file/tensor_file.py": "the file that a caller replaces",
    "inspection/memory.py": "a file of the system",
    "training/study/ledger.py": "lines that are added, and locks, which are empty",
    "training/study/running.py": "a log, lines that are added",
}
"""Where files are written but not replaced, and what these are."""


CARELESS = ("in place", "unflushed")
CHECKS = (
    *(f"{name}{what}" for name in ("pc.save", "ledger") for what in ("", ": little room", ": short files")),
    "pc.save: killed", "pc.save: two at once",
)  # fmt: skip

needs_faults = pytest.mark.skipif(compiler() is None, reason="the faults are a C library, for Linux")


@pytest.fixture(scope="module")
def counts() -> dict[str, list[int]]:
    """By name, the cases, those that left the old and the new, and the wrong ones."""
    command = [sys.executable, "-m", "writing.run", *CHECKS, *CARELESS]
    done = subprocess.run(command, cwd=Path(__file__).parents[1], capture_output=True, text=True, check=False)
    print(done.stdout, done.stderr)
    assert done.returncode == 1, "careless writers passed"
    lines = done.stdout.splitlines()[1 : 1 + len(CHECKS) + len(CARELESS)]
    return {line[:40].strip(): [int(figure) for figure in line[40:].split()[:4]] for line in lines}


@needs_faults
def test_no_fault_of_a_disk_leaves_anything_but_the_old_file_or_the_new(counts: dict[str, list[int]]) -> None:
    for check in CHECKS:
        cases, old, new, wrong = counts[check]
        assert wrong == 0
        assert old + new == cases
        assert "little room" in check or (old and new)  # the small disk is one that may have to be skipped
    assert counts["pc.save"][0] > 100
    assert counts["ledger"][0] > 50


@needs_faults
@pytest.mark.parametrize("careless", CARELESS)
def test_writers_without_care_are_found(careless: str, counts: dict[str, list[int]]) -> None:
    assert counts[careless][3] > 10


def test_no_writer_goes_around() -> None:
    """A file is written through `replacing`, or its module is named above."""
    around = {name for name, tree in modules() if any(is_bare(tree))}
    assert around == set(OTHERWISE)


def modules() -> Iterator[tuple[str, ast.AST]]:
    """Those in which something may be written."""
    for path in SOURCES.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        if any(word in text for word in (*WRITING, "open(", "torch.save")):
            yield path.relative_to(SOURCES).as_posix(), ast.parse(text)


def is_bare(tree: ast.AST) -> list[bool]:
    """For each call that writes, whether no `with replacing` is around it."""
    guarded = {
        call
        for node in ast.walk(tree)
        if isinstance(node, ast.With) and any("replacing" in ast.unparse(item.context_expr) for item in node.items)
        for call in ast.walk(node)
    }
    return [call not in guarded for call in ast.walk(tree) if isinstance(call, ast.Call) and writes(call)]


def writes(call: ast.Call) -> bool:
    name = ast.unparse(call.func)
    modes = [node.value for node in [*call.args, *(k.value for k in call.keywords)] if isinstance(node, ast.Constant)]
    opens = name.endswith("open") and any(isinstance(mode, str) and set(mode) & set("wax+") for mode in modes)
    flags = name == "os.open" and any("O_WRONLY" in ast.unparse(node) for node in call.args)
    return opens or flags or name == "torch.save" or name.split(".")[-1] in WRITING
