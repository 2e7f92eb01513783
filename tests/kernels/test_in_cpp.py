"""The kernels against integers and under fuzzed inputs, by C++ programs that are built once into build/tests-cpp/.

AMX's kernels run on tiles in software, so that machines without AMX test them too; NEON's run under qemu-user. The
summary of pytest says what ran (`tests/conftest.py`). CMake compiles again only what a change concerns.
"""

import platform
import shlex
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
INPUTS = 2000
"""How many inputs the fuzzer draws: a few seconds' worth."""


class Target(NamedTuple):
    """A processor that programs are built for."""

    options: tuple[str, ...]
    """What CMake is told."""
    needs: tuple[str, ...]
    """Commands, without which nothing is run."""
    emulator: tuple[str, ...] = ()
    sets: tuple[str, ...] = ()
    """The instruction sets to check; all by default."""


CROSS = "-DCMAKE_SYSTEM_NAME=Linux", "-DCMAKE_SYSTEM_PROCESSOR=aarch64", "-DCMAKE_CXX_COMPILER=aarch64-linux-gnu-g++"
QEMU = "qemu-aarch64", "-L", "/usr/aarch64-linux-gnu"
TARGETS = {
    "aarch64": Target(CROSS, ("cmake", "aarch64-linux-gnu-g++", "qemu-aarch64"), QEMU, ("neon",)),
    platform.machine(): Target(("-DPROXCONNECT_EMULATED_TILES=ON",), ("cmake", "c++")),  # on ARM in the other's place
}


def run(*command: str | Path) -> str:
    """What a command prints; one that fails fails the test."""
    ran = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=500)
    assert ran.returncode == 0, f"{shlex.join(map(str, command))} failed:\n{ran.stdout}"
    return ran.stdout


@pytest.mark.parametrize("processor", TARGETS)
def test_programs(processor: str, record_property: Callable[[str, object], None]) -> None:
    target = TARGETS[processor]
    missing = ", ".join(command for command in target.needs if shutil.which(command) is None)
    if missing:
        record_property("kernels in C++", f"{processor}: not run, for lack of {missing}")
        pytest.skip(f"needs {missing}")
    folder = ROOT / "build" / "tests-cpp" / processor
    run("cmake", "-S", ROOT, "-B", folder, "-DPROXCONNECT_TESTS=ON", "-DCMAKE_CXX_FLAGS_RELEASE=-O1", *target.options)
    others = [] if target.emulator else ["test_memory", "fuzz_seeded"]  # `make test-arm` emulates the fuzzer too
    run("cmake", "--build", folder, "--target", "test_kernels", *others)
    lines = run(*target.emulator, folder / "test_kernels", *target.sets).splitlines()
    if not target.emulator:
        run(folder / "test_memory")
        run(folder / "fuzz_seeded", str(INPUTS))
    checks = [line for line in lines if line.startswith(("checked: ", "skipped: "))]
    record_property("kernels in C++", f"{processor}: {'; '.join(checks)}")
    assert any(line.startswith("checked: ") for line in checks)
