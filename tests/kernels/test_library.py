"""The compiled library: which one is loaded, and whose threads it takes."""

import ctypes
import os
import resource
import shutil
import signal
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from proxconnect import kernels
from proxconnect.kernels import library
from proxconnect.kernels.bits import pack_bits

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
    monkeypatch.setitem(library._FUNCTIONS, "px_of_tomorrow", ())
    with pytest.raises(RuntimeError, match="built from other sources"):
        library._require_same_interface(loaded)


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("two_threads")
@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="needs fork, and Linux to count threads")
def test_threads_of_a_library_that_a_forked_process_loads(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The child starts a thread, since it would wait without end for OpenMP's; the parent uses OpenMP's."""
    x, made = torch.randn(200, 1000), kernels.panels(pack_bits(torch.randn(301, 1000)), 301, 1000)
    expected = kernels.binary_linear(x, made, 301)  # which starts the threads of OpenMP

    def new_threads() -> int | None:
        """Count the threads that start when a newly loaded library answers; None for a wrong answer."""
        before, loaded = len(os.listdir("/proc/self/task")), another(tmp_path)
        monkeypatch.setattr(library, "library", lambda: loaded)
        is_right = bool((kernels.binary_linear(x, made, 301).numpy() == expected.numpy()).all())
        return len(os.listdir("/proc/self/task")) - before if is_right else None

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of threads at a fork, which are what is tested
        child = os.fork()
    if child == 0:
        signal.alarm(20)
        try:
            os._exit(0 if new_threads() == 1 else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert new_threads() == 0


@pytest.mark.usefixtures("two_threads")
@pytest.mark.skipif(not Path("/proc/self/statm").is_file(), reason="needs fork, and Linux to limit memory")
@pytest.mark.parametrize("kind", ["signs", "rounded", "levels"])
def test_memory_does_not_grow_with_the_number_of_rows(kind: str) -> None:
    """Rows that overlap, so that the input takes no memory itself."""
    rows, entries = 100_000 if kind == "signs" else 12_000, 1 << 16
    x, latent = torch.randn(rows + entries).as_strided((rows, entries), (1, 1)), torch.randn(2, entries)
    made = kernels.panels(pack_bits(latent), 2, entries)
    levels = kernels.int8_panels(latent.sign().to(torch.int8))
    calls = {
        "signs": lambda x: kernels.binary_linear(x, made, 2),
        "rounded": lambda x: kernels.dynamic_int8_linear(x, made, 2),
        "levels": lambda x: kernels.int8_linear(x, levels, 2),
    }
    some = [*range(0, rows, rows // 40), rows - 1]
    expected = torch.cat([calls[kind](x[i : i + 1]) for i in some])
    child = os.fork()
    if child == 0:
        signal.alarm(60)
        try:
            size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (size + (400 << 20),) * 2)
            os._exit(0 if torch.equal(calls[kind](x)[some], expected) else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
