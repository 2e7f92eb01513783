"""The table of planted faults fits these sources; `make test-planted` shows that each fault is caught."""

from pathlib import Path

import pytest

from planted.fault import fault
from planted.kernel_faults import EMULATED, KERNEL_FAULTS
from planted.python_faults import PYTHON_FAULTS

ROOT = Path(__file__).parents[2]
FAULTS = (*KERNEL_FAULTS, *PYTHON_FAULTS, *EMULATED)


def test_every_fault_can_be_planted() -> None:
    for planted in FAULTS:
        planted.edit_in(ROOT)
        assert any((ROOT / test).exists() for test in planted.tests) or planted in EMULATED, planted.name


def test_thirty_and_thirty() -> None:
    assert len(KERNEL_FAULTS) == len(PYTHON_FAULTS) == 30
    assert len({planted.name for planted in FAULTS}) == len(FAULTS)


@pytest.mark.parametrize("text", ["a = 2\n", "a = 1\nb = a = 1\n"])
def test_a_text_that_is_not_there_once_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "code.py").write_text(text)
    with pytest.raises(ValueError, match="'one' must be updated"):
        fault("one", "", "", ("code.py", "a = 1", "a = 3")).plant(tmp_path)


def test_the_first_edit_that_fits_is_planted(tmp_path: Path) -> None:
    (tmp_path / "code.py").write_text("a = 1\n")
    fault("one", "", "", ("gone.py", "a", "b"), ("code.py", "a = 2", "a = 3"), ("code.py", "= 1", "= 4")).plant(
        tmp_path
    )
    assert (tmp_path / "code.py").read_text() == "a = 4\n"
