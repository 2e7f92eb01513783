"""Data that cannot be read, or is not what it should be, in the middle of an epoch: it is told, and the run goes on."""

import pytest
import torch

from kills.stopping import Broken
from proxconnect.training.checkpoints import LAST, read_run
from proxconnect.training.data.loaders import require_batch
from training.small_runs import configuration, differences, finish, outcome

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:lightning", "ignore:.*LeafSpec")


def run(folder, kind="raises", workers=0, **parts):
    options = {"broken": str(folder / "broken"), "kind": kind, "workers": workers}
    plain = configuration(data=options, checkpoint={"every_steps": 1}, **parts)
    plain["data"]["class_path"] = f"{Broken.__module__}.{Broken.__name__}"
    return finish(folder, plain=plain)


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    run(folder)
    return outcome(folder)


@pytest.mark.parametrize(
    ("kind", "workers", "says"),
    [
        ("raises", 0, r"picture \d+ cannot be read"),
        ("raises", 1, r"picture \d+ cannot be read"),
        ("nan", 0, "The loss is nan"),
    ],
)
def test_it_is_told_and_the_mended_run_goes_on_to_the_bit(kind, workers, says, expected, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.utils.data._utils, "MP_STATUS_CHECK_INTERVAL", 0.5)  # torch waits for workers that long
    (tmp_path / "broken").touch()
    with pytest.raises((OSError, ValueError), match=says):
        run(tmp_path, kind, workers)
    assert read_run(tmp_path / LAST)["global_step"] == 4
    (tmp_path / "broken").unlink()
    run(tmp_path, kind, workers)
    assert not differences(expected, outcome(tmp_path))


IMAGES, LABELS = torch.zeros(2, 1, 8, 8), torch.zeros(2, dtype=torch.int64)


@pytest.mark.parametrize(
    ("images", "targets", "says"),
    [
        (IMAGES[:0], LABELS[:0], r"float32 \(0, 1, 8, 8\) for images: they must be standardised floats"),
        (IMAGES.byte(), LABELS, r"uint8 \(2, 1, 8, 8\) for images"),
        (IMAGES.flatten(1), LABELS, r"float32 \(2, 64\) for images"),
        (IMAGES, LABELS[:1], r"int64 \(1,\) for the labels of 2 images: they must be int64"),
        (IMAGES, LABELS.float(), r"float32 \(2,\) for the labels"),
        (IMAGES, LABELS[:, None], r"int64 \(2, 1\) for the labels"),
    ],
    ids=["empty", "bytes", "flat", "few labels", "float labels", "labels in columns"],
)
def test_what_is_no_batch_is_refused_in_words(images, targets, says):
    with pytest.raises(ValueError, match=says):
        require_batch(images, targets)


def test_labels_and_shares_of_them_are_taken():
    require_batch(IMAGES, LABELS)
    require_batch(IMAGES.double(), torch.zeros(2, 4))
