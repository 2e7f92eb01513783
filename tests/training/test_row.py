"""A row of a study: what it measures, also where it was stopped on the way."""

import pytest

from proxconnect.training.row import run_row
from training.small_runs import configuration

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:lightning", "ignore:.*LeafSpec")


class StopError(Exception):
    pass


def stopping_at(step):
    def on_progress(progress):
        if progress[0] == step:
            raise StopError

    return on_progress


def test_a_row_that_was_stopped_measures_the_same_and_counts_the_seconds_before(tmp_path, monkeypatch):
    plain = configuration(model={"start": {"float_epochs": 1}}, checkpoint={"every_steps": 1})
    seen = []
    whole = run_row(plain, tmp_path / "whole", seen.append)
    assert seen == [*((step, 3) for step in (1, 2, 3)), *((step, 6) for step in range(1, 7))]
    now = iter(range(0, 100_000, 100))  # each look at the clock is 100 seconds after the one before
    monkeypatch.setattr("proxconnect.training.row.time.perf_counter", lambda: next(now))
    with pytest.raises(StopError):
        run_row(plain, tmp_path / "stopped", stopping_at(5))
    before = next(now)
    again = run_row(plain, tmp_path / "stopped", seen.append)
    assert again["seconds"] > next(now) - before, "more than those of this process alone"
    for name in ("seconds", "peak_memory_bytes"):
        del again[name], whole[name]
    assert again == whole
    assert set(whole["accuracy"]) == {"reestimated", "hard", "soft"}
    assert whole["accuracy"]["reestimated"] == whole["curve"][-1]["accuracy"]


@pytest.mark.parametrize("trainer", [{"check_val_every_n_epoch": 3}, {"max_steps": 4}, {"max_epochs": 0}])
def test_a_row_that_ends_without_a_validation_says_so(trainer, tmp_path):
    with pytest.raises(ValueError, match="was not validated after its last epoch"):
        run_row(configuration(trainer=trainer), tmp_path, lambda progress: None)
