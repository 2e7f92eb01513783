"""Kernels compile for an H100, with all registers that they need; no GPU is asked for."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

CASES = {
    "row": {"float_kernels row_kernel", "float_kernels sum_kernel"},
    "row of signs": {"sign_kernels row_kernel", "sign_kernels sum_kernel"},
    "rows": {"float_kernels rows_kernel"},
    "few rows": {"float_kernels rows_kernel", "float_kernels sum_kernel"},
    "float32 rows": {"float_kernels rows_kernel"},
    "rows of signs": {"sign_kernels rows_kernel"},
    "images": {"float_kernels patches_kernel"},
    "float32 images": {"float_kernels patches_kernel"},
    "images of signs": {"sign_kernels patches_kernel"},
}


@pytest.mark.parametrize(
    "case", ["rows", *(pytest.param(case, marks=pytest.mark.thorough) for case in CASES if case != "rows")]
)
def test_kernels_compile_for_an_h100_and_spill_nothing(case: str, tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    program = [sys.executable, str(Path(__file__).with_name("compiled.py")), case]
    done = subprocess.run(
        program, capture_output=True, text=True, env=environment | {"TRITON_CACHE_DIR": str(tmp_path)}
    )
    assert done.returncode == 0, done.stderr
    lines = [line.rsplit(" ", 2) for line in done.stdout.splitlines()]
    assert {kernel for kernel, _, _ in lines} == CASES[case]
    assert {spilled for _, _, spilled in lines} == {"0"}
