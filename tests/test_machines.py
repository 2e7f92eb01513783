"""A few tests as on another machine, a different one each day; `make test-machines` runs more of them on all."""

import datetime
import platform

import pytest

from machines.rows import ROWS, Row
from machines.run import run

FEW = (
    "kernels/test_fused_layers.py",
    "deploy/fusion/test_int8_remainder.py",
)


def test_a_row_of_the_day_passes() -> None:
    here = [(name, row) for name, row in ROWS.items() if not row.missing()]
    name, row = here[datetime.date.today().toordinal() % len(here)]
    outcome = run(row, FEW, workers=0)
    assert outcome.passed > 50
    assert not outcome.failures, name


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="limits instructions of x86")
def test_a_row_reaches_torch_and_the_kernels() -> None:
    limits = {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "AVX2"}
    row = Row(limits, ("--threads", "2", "--without-onednn"), "portable")
    assert run(row, ["machines/as_told.py"], workers=0).failures == ()
