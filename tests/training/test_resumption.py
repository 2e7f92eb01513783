"""A run that was stopped ends as the unbroken one, to the last bit; with `--full`, after each of its steps."""

import shutil

import lightning
import pytest

from training.small_runs import TRANSFORMER, differences, finish, outcome

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:lightning", "ignore:.*LeafSpec")

WITH_DROPOUT = {**TRANSFORMER, "options": {**TRANSFORMER["options"], "proj_drop_rate": 0.3}}
RUNS = {
    "a convolutional network and the average of its weights": {
        "trainer": {"callbacks": [{"class_path": "EMAWeightAveraging", "init_args": {"decay": 0.9}}]}
    },
    "accumulated gradients, dropout and mixup": {
        "model": {
            "network": WITH_DROPOUT,
            "binary": {"weights": "bnn++", "activations": "poly+"},
            "sharpening": {"activations": {}},
        },
        "data": {"flip": True, "mixup": {}},
        "trainer": {"accumulate_grad_batches": 2},
    },
    "phases with a teacher in channels_last and bfloat16": {
        "model": {
            "channels_last": True,
            "binary": {"weights": "bnn++", "activations": "poly"},
            "start": {"float_epochs": 1, "activation_epochs": 1},
            "teacher": {"features": {"stages.0": "stages.1"}},
        },
        "data": {"batch_size": 48},
        "trainer": {"max_epochs": 1, "precision": "bf16-mixed"},
    },
}


class Copying(lightning.Callback):
    """Copies the folder of the run before each batch, which is all that a kill would leave."""

    def __init__(self, folder, copies):
        self.folder, self.copies = folder, copies
        self.count = 0

    def on_train_batch_start(self, *_):
        shutil.copytree(self.folder, self.copies / str(self.count))
        self.count += 1


@pytest.mark.parametrize("parts", RUNS.values(), ids=RUNS)
def test_from_a_checkpoint_the_end_is_that_of_the_unbroken_run(parts, tmp_path, pytestconfig):
    whole, copies = tmp_path / "whole", tmp_path / "copies"
    parts = parts | {"checkpoint": {"every_steps": 1}}
    whole.mkdir()
    copying = Copying(whole, copies)
    finish(whole, [copying], **parts)
    expected = outcome(whole)
    assert copying.count >= 6
    finish(whole, **parts)
    assert not differences(expected, outcome(whole)), "stopped after its end"
    last = copying.count - 1
    for number in range(copying.count) if pytestconfig.getoption("full") else (0, last // 2, last):
        finish(copies / str(number), **parts)
        assert not differences(expected, outcome(copies / str(number))), f"stopped before batch {number}"
