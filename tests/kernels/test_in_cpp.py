"""The kernels against integers and under fuzzed inputs, by C++ programs (`programs.py`).

AMX's kernels run on tiles in software, so that machines with AVX-512 test them too; NEON's run under qemu-user. The
summary of pytest says what ran (`tests/conftest.py`).
"""

from collections.abc import Callable

import pytest

from kernels.programs import TARGETS, built, missing, run

INPUTS = 2000
"""How many inputs the fuzzer draws: a few seconds' worth."""


@pytest.mark.parametrize("processor", TARGETS)
def test_programs(processor: str, record_property: Callable[[str, object], None]) -> None:
    target = TARGETS[processor]
    if commands := missing(target):
        record_property("kernels in C++", f"{processor}: not run, for lack of {commands}")
        pytest.skip(f"needs {commands}")
    folder = built(processor)
    lines = run(*target.emulator, folder / "test_kernels", *target.sets).splitlines()
    if not target.emulator:
        run(folder / "test_memory")
        run(folder / "fuzz_seeded", str(INPUTS))
    checks = [line for line in lines if line.startswith(("checked: ", "skipped: "))]
    record_property("kernels in C++", f"{processor}: {'; '.join(checks)}")
    assert any(line.startswith("checked: ") for line in checks)
