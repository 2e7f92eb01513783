"""What a run logs of its binary layers, shows in its bar, and says of what goes wrong."""

import csv
import io
import re

import pytest
from lightning.pytorch.callbacks.progress import rich_progress
from rich.console import Console

from proxconnect.training.checkpoints import LAST
from proxconnect.training.configuration import Configured
from proxconnect.training.health import DivergedError, Health
from training.small_runs import configuration, configured, finish

pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec", "ignore:.*does not have many workers")


def sgd(lr):
    return {"optimizer": {"class_path": "torch.optim.SGD", "init_args": {"lr": lr}}}


def health_of(run):
    return [callback for callback in run.trainer.callbacks if isinstance(callback, Health)]


def test_the_meters_of_each_layer_are_logged_once_an_epoch(tmp_path):
    finish(tmp_path, trainer={"logger": True})
    with (tmp_path / "logs" / "0" / "metrics.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row.get("health/all/softness")]
    assert len(rows) == 2
    layers = {name.split("/")[1] for name in rows[0] if name.startswith("health/")}
    assert layers == {"all", *(f"stages.{i}.conv" for i in range(4))}
    assert all(float(row["health/all/flip_rate"]) >= 0 for row in rows)
    assert float(rows[1]["health/all/softness"]) < float(rows[0]["health/all/softness"])


def test_a_run_in_which_nothing_flips_says_so_once_and_what_to_try(tmp_path):
    with pytest.warns(UserWarning, match="No signs flip in all 4 binary layers.*raise its learning rate") as said:
        finish(tmp_path, model=sgd(lr=0.0))
    assert len([warning for warning in said if "No signs flip" in str(warning.message)]) == 1


def test_a_run_that_diverges_stops_with_words_and_writes_no_checkpoint_of_it(tmp_path):
    with pytest.raises(DivergedError, match=r"The loss is (nan|inf)\. Go back to the last checkpoint and lower"):
        finish(tmp_path, model=sgd(lr=1e38), trainer={"max_epochs": 1})
    assert not (tmp_path / LAST).exists()


def test_nothing_is_left_on_the_network(tmp_path):
    run = finish(tmp_path, model={"binary": {"weights": "bnn++", "activations": "bnn"}})
    assert not any(module._forward_pre_hooks for module in run.model.network.modules())


def test_it_can_be_turned_off(tmp_path):
    assert len(health_of(configured(tmp_path))) == 1
    plain = configuration(trainer={"default_root_dir": str(tmp_path)})
    assert not health_of(Configured(plain | {"health": False}))


def test_the_bar_shows_loss_sharpness_and_accuracy_within_80_columns(tmp_path, monkeypatch):
    screen = io.StringIO()
    narrow = Console(file=screen, width=80, force_terminal=True, legacy_windows=False)
    monkeypatch.setattr(rich_progress, "get_console", lambda: narrow)
    finish(tmp_path, trainer={"enable_progress_bar": True, "log_every_n_steps": 1})
    lines = re.split("[\r\n]+", re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", screen.getvalue()))
    shown = [line for line in lines if line.startswith("Epoch 1/1")][-1]
    assert re.search(r"3/3 .* loss: [0-9.]+ μ: [0-9.]+ acc: [0-9.]+ *$", shown)
