"""The C++ programs that test the kernels, built into build/tests-cpp/ for each processor.

`make test` builds them with all processors before the tests, from tests/: python -m kernels.programs. CMake compiles
again only what a change concerns.
"""

import os
import platform
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
CPU = Path("/proc/cpuinfo")


class Target(NamedTuple):
    """A processor that programs are built for."""

    options: tuple[str, ...]
    """Options of CMake."""
    needs: tuple[str, ...]
    """Commands without which nothing is built."""
    emulator: tuple[str, ...] = ()
    sets: tuple[str, ...] = ()
    """The instruction sets to check; all by default."""


def may_have_avx512() -> bool:
    """Return False if this machine says that it lacks the instructions of our kernels for AVX-512."""
    return not CPU.exists() or "avx512_vnni" in CPU.read_text()


CROSS = "-DCMAKE_SYSTEM_NAME=Linux", "-DCMAKE_SYSTEM_PROCESSOR=aarch64", "-DCMAKE_CXX_COMPILER=aarch64-linux-gnu-g++"
FLAGS = "-DCMAKE_CXX_FLAGS_RELEASE=-O1 --param=ggc-min-heapsize=4000000"
"""GCC collects no garbage below 4 GB: that takes a quarter of its time."""
QEMU = "qemu-aarch64", "-L", "/usr/aarch64-linux-gnu"
NATIVE = "-DPROXCONNECT_EMULATED_TILES=ON", f"-DPROXCONNECT_AVX512={'ON' if may_have_avx512() else 'OFF'}"
TARGETS = {
    "aarch64": Target(CROSS, ("cmake", "aarch64-linux-gnu-g++", "qemu-aarch64"), QEMU, ("neon",)),
    platform.machine(): Target(NATIVE, ("cmake", "c++")),  # on ARM in the other's place
}


def missing(target: Target) -> str:
    """Return the commands that this machine lacks."""
    return ", ".join(command for command in target.needs if shutil.which(command) is None)


def run(*command: str | Path) -> str:
    """Return what a command prints; raise AssertionError if it fails."""
    ran = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=500)
    assert ran.returncode == 0, f"{shlex.join(map(str, command))} failed:\n{ran.stdout}"
    return ran.stdout


def built(processor: str, jobs: int = 1) -> Path:
    """Build the programs for a processor and return their folder."""
    target, folder = TARGETS[processor], ROOT / "build" / "tests-cpp" / processor
    run("cmake", "-S", ROOT, "-B", folder, "-DPROXCONNECT_TESTS=ON", FLAGS, *target.options)
    others = [] if target.emulator else ["test_memory", "fuzz_seeded"]  # `make test-arm` emulates the fuzzer too
    run("cmake", "--build", folder, "--parallel", str(jobs), "--target", "test_kernels", *others)
    return folder


if __name__ == "__main__":
    for name, target in TARGETS.items():
        if not missing(target):
            built(name, os.cpu_count() or 1)
