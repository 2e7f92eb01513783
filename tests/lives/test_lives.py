"""Some lives of binary models, and what the machine says of a library that is wrong; `make test-lives` is many."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test
from torch import nn

from lives.small_networks import Way
from lives.storing import Shipping
from proxconnect.layers import base
from proxconnect.quantizer import Quantizer

FEW = settings(max_examples=12, stateful_step_count=20, deadline=None, derandomize=True, database=None,
               phases=[Phase.generate, Phase.shrink],
               suppress_health_check=list(HealthCheck))  # fmt: skip

pytestmark = pytest.mark.filterwarnings("ignore")


def test_nothing_changes_but_what_was_asked_for() -> None:
    run_state_machine_as_test(Shipping, settings=FEW)


def stepped(life: Shipping) -> None:
    life.make_optimizer("sgd")
    life.set_mode(is_training=False)
    life.step(seed=0, has_closure=False)


def copied(life: Shipping) -> None:
    life.enter("hard")
    life.copy_it("deepcopy", goes_on=False)


FAULTS: dict[str, tuple[Any, str, Callable[..., Any], Callable[[Shipping], None]]] = {
    "no guard of hard weights": (base, "watch", lambda layer: None, stepped),
    "copies that stay in a context": (Quantizer, "__setstate__", nn.Module.__setstate__, copied),
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("is_there", [True, False])
def test_a_wrong_library_is_caught(is_there: bool, fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    *wrong, happens = FAULTS[fault]
    if is_there:
        monkeypatch.setattr(*wrong)
    life = Shipping()
    life.birth("dense", Way("bnn++", "poly", "channel", None, "edges", has_thresholds=False), 0)
    if not is_there:
        happens(life)
        return
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        happens(life)
