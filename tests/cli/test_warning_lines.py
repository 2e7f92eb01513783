"""Warnings of the library and errors of files are one line of the command, without Python's own additions."""

import warnings
from pathlib import Path

import pytest
import torch

import proxconnect
from proxconnect.cli.parser import complain
from proxconnect.cli.warning_lines import warning_lines

OURS = str(Path(proxconnect.__file__).parent / "deploy" / "readiness.py")


def test_a_warning_of_the_library_is_one_line_and_others_stay_as_python_writes_them():
    before = warnings.formatwarning
    with warning_lines():
        ours = warnings.formatwarning("two\nlines", UserWarning, OURS, 3)
        other = warnings.formatwarning("two\nlines", UserWarning, "other.py", 3, "code()")
    assert ours == "proxconnect: warning: two lines\n"
    assert other == before("two\nlines", UserWarning, "other.py", 3, "code()")
    assert warnings.formatwarning is before


def test_a_deprecation_inside_torch_is_not_shown():
    with warnings.catch_warnings(record=True) as caught, warning_lines():
        torch.utils._pytree.LeafSpec()
        warnings.warn("another", FutureWarning, stacklevel=1)
    assert [str(w.message) for w in caught] == ["another"]


def test_formatting_is_restored_after_an_error():
    before = warnings.formatwarning
    with pytest.raises(ZeroDivisionError), warning_lines():
        raise ZeroDivisionError
    assert warnings.formatwarning is before


def test_an_error_of_a_file_has_no_number(capsys):
    with pytest.raises(FileNotFoundError) as caught:
        Path("absent.ckpt").read_text()
    assert complain(caught.value, 2) == 2
    assert capsys.readouterr().err == "proxconnect: No such file or directory: 'absent.ckpt'\n"
