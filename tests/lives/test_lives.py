"""Some lives of binary models, and what the machine says of a library that is wrong; `make test-lives` is many."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test
from torch import nn

from lives.storing import Shipping
from proxconnect.layers import guard
from proxconnect.quantizer import Quantizer

FEW = settings(max_examples=12, stateful_step_count=20, deadline=None, derandomize=True, database=None,
               phases=[Phase.generate, Phase.shrink],
               suppress_health_check=list(HealthCheck))  # fmt: skip

pytestmark = pytest.mark.filterwarnings("ignore")


def test_nothing_changes_but_what_was_asked_for() -> None:
    run_state_machine_as_test(Shipping, settings=FEW)


FAULTS: dict[str, tuple[Any, str, Callable[..., Any]]] = {
    "no guard of hard weights": (guard, "watch", lambda layer: None),
    "copies that stay in a context": (Quantizer, "__setstate__", nn.Module.__setstate__),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_wrong_library_is_caught(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(*FAULTS[fault])
    quick = settings(FEW, max_examples=60, phases=[Phase.generate])
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        run_state_machine_as_test(Shipping, settings=quick)
