"""A run in bfloat16 on a processor without instructions for it says so."""

import warnings

import pytest
import torch

from proxconnect.training.precision import warn_of_slow_bfloat16
from training.small_runs import configured, finish

pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec", "ignore:.*does not have many workers")


@pytest.fixture
def old_processor(monkeypatch):
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)


def test_a_run_in_bfloat16_warns_before_it_trains(tmp_path, old_processor):
    with pytest.warns(UserWarning, match=r"no instructions for bfloat16.*Leave --trainer\.precision out"):
        finish(tmp_path, trainer={"precision": "bf16-mixed", "max_epochs": 1})


def test_a_run_in_float32_does_not(tmp_path, old_processor):
    with warnings.catch_warnings(action="error"):
        warn_of_slow_bfloat16(configured(tmp_path).trainer)


@pytest.mark.parametrize(("machine", "is_known"), [("x86_64", True), ("AMD64", True), ("aarch64", False)])
def test_nor_does_one_on_a_processor_that_has_them_or_is_not_asked(tmp_path, monkeypatch, machine, is_known):
    monkeypatch.setattr("platform.machine", lambda: machine)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: is_known)
    with warnings.catch_warnings(action="error"):
        warn_of_slow_bfloat16(configured(tmp_path, trainer={"precision": "bf16-mixed"}).trainer)
