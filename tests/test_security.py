"""What SECURITY.md promises of the sources, and that the tests that it names are there."""

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]


def lines_of(*patterns: str) -> Iterator[tuple[str, str]]:
    """The lines of the sources, each with the path of its file."""
    for pattern in patterns:
        for path in sorted(ROOT.glob(pattern)):
            for line in path.read_text(encoding="utf-8").splitlines():
                yield path.relative_to(ROOT).as_posix(), line


def places(expression: str, *patterns: str) -> set[str]:
    """The files of the package, or those of `patterns`, that have such a line."""
    sources = lines_of(*(patterns or ("src/**/*.py",)))
    return {path for path, line in sources if re.search(expression, line)}


def test_no_environment_variable_decides() -> None:
    asking = places(r"\benviron\b|\bgetenv\b", "src/**/*.py", "csrc/**/*.cpp", "csrc/**/*.hpp", "csrc/**/*.h")
    assert asking == {
        "src/proxconnect/_support/heap.py",  # whether this process keeps the memory that it frees
        "src/proxconnect/cli/streams.py",  # a width that no terminal has
        "src/proxconnect/kernels/library.py",  # the best instruction set, one of those that the machine has
        "src/proxconnect/training/lost_ranks.py",  # the number of the process that started a rank
    }


def test_native_code_comes_from_the_package_alone() -> None:
    loading = r"\bCDLL\b|\bPyDLL\b|LoadLibrary|load_library\(|cpp_extension|\bdlopen\("
    assert places(loading + r"|ctypes\.cdll") == {
        "src/proxconnect/_support/heap.py",
        "src/proxconnect/kernels/library.py",
    }
    heap = (ROOT / "src/proxconnect/_support/heap.py").read_text(encoding="utf-8")
    assert re.findall(r"CDLL\(.*?\)", heap) == ["CDLL(None)"]  # this process, no file
    library = (ROOT / "src/proxconnect/kernels/library.py").read_text(encoding="utf-8")
    assert re.findall(r"ctypes\.CDLL\(.*", library) == ["ctypes.CDLL(str(file))"]
    assert "for folder in sys.modules[__package__].__path__:\n        file = Path(folder) / FILE" in library


def test_nothing_trusts_code_from_elsewhere() -> None:
    assert places(r"trust_remote_code(?!=False\b)|trust_repo|allow_pickle|weights_only=None") == set()
    loads = [(path, line) for path, line in lines_of("src/**/*.py") if re.search(r"\btorch\.load\(", line)]
    assert loads
    assert all("weights_only=True" in line for _, line in loads)
    assert places(r"\bpickle\.loads?\(|\bUnpickler\(|yaml\.(unsafe_|full_)?load\(") == {
        "src/proxconnect/training/study/yaml_files.py"  # with a loader of its own, which makes plain data
    }


def test_the_tests_that_are_named_are_there() -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", (ROOT / "SECURITY.md").read_text(encoding="utf-8"))
    assert len(named) > 15
    for path, test in named:
        text = (ROOT / path).read_text(encoding="utf-8")
        assert not test or f"def {test}(" in text, f"{path}::{test}"
