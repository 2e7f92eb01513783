"""timm's transforms and mixing: pure functions of what they are seeded by, which leave global generators alone."""

import random
from contextlib import contextmanager
from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image
from timm.data import create_transform

from proxconnect.training.data.hashing import seeded
from proxconnect.training.data.pictures import TensorPictures
from proxconnect.training.data.transforms import MixupOptions, TransformOptions, augmented, mixed, opened, posterized

HALF = (0.5, 0.5, 0.5)
EVERYTHING = TransformOptions(image_size=16, auto_augment="rand-m9-mstd0.5-inc1", interpolation="random", erasing=0.9)


def pictures(count: int = 6, channels: int = 3) -> TensorPictures:
    images = torch.randint(0, 256, (count, channels, 20, 24), dtype=torch.uint8)
    return TensorPictures(images, torch.arange(count))


def draws() -> tuple[float, float, float]:
    return random.random(), float(np.random.rand()), float(torch.rand(()))


@contextmanager
def untouched():
    """Within, the global generators are left alone."""
    with seeded(5):
        expected = draws()
    with seeded(5):
        yield
        assert draws() == expected


def test_generators_are_seeded_and_restored_also_after_an_error():
    with untouched(), seeded(1):
        expected = draws()
    with untouched(), pytest.raises(ZeroDivisionError), seeded(1):  # noqa: PT012
        assert draws() == expected
        _ = 1 / 0


@pytest.mark.parametrize("channels", [1, 3])
def test_a_picture_looks_alike_in_any_batch_and_anew_in_each_epoch(channels):
    transform = EVERYTHING.for_training(HALF[:channels], HALF[:channels])
    view = partial(augmented, pictures(6, channels), transform, 0)
    with untouched():
        whole = view(torch.arange(6), epoch=1)
    assert whole.shape == (6, channels, 16, 16)
    assert whole.dtype == torch.float32
    assert torch.equal(view(torch.tensor([4, 1]), epoch=1), whole[[4, 1]])
    assert not torch.equal(view(torch.arange(6), epoch=2), whole)


@pytest.mark.parametrize("policy", ["rand-m10-n15-inc1", "rand-m0-n15", "augmix-m10-w1", "v0", "original"])
def test_policies_go_as_far_as_they_are_published(policy):
    transform = TransformOptions(image_size=16, auto_augment=policy).for_training(HALF, HALF)
    assert augmented(pictures(40), transform, 0, torch.arange(40), epoch=0).isfinite().all()


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_a_picture_of_no_bits_is_black(mode):
    picture = Image.new(mode, (3, 2), "white")
    assert posterized(picture, 0).getextrema() == Image.new(mode, (3, 2)).getextrema()
    assert posterized(picture, 3).tobytes() == bytes([0b11100000] * len(picture.tobytes()))
    assert posterized(picture, 8) is picture


def test_evaluation_is_timms(tmp_path):
    some = pictures()
    options = TransformOptions(image_size=16, crop_share=0.8, interpolation="bicubic")
    theirs = create_transform(16, crop_pct=0.8, interpolation="bicubic", mean=HALF, std=HALF)
    ours = opened(some, options.for_evaluation(HALF, HALF), torch.arange(2), 0)
    assert torch.equal(ours, torch.stack([theirs(some.open(index)) for index in range(2)]))


def test_own_constants_go_before_those_of_the_data_set():
    ours = TransformOptions(image_size=20, crop_share=1.0, mean=(0.0,) * 3, deviation=(1.0,) * 3)
    square = TensorPictures(pictures().images[..., :20], torch.arange(6))
    seen = opened(square, ours.for_evaluation(HALF, HALF), torch.arange(6), 0)
    torch.testing.assert_close(seen * 255, square.images.float())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image_size": 0}, "image_size=0"),
        ({"crop_share": 1.5}, "crop_share=1.5"),
        ({"mean": (0.5,)}, "both mean and deviation"),
        ({"auto_augment": "randaugment"}, r"auto_augment='randaugment'.*rand-m9-mstd0.5-inc1"),
        ({"auto_augment": "rand-x9"}, "auto_augment='rand-x9'"),
    ],
)
def test_options_that_mean_nothing(options, message):
    with pytest.raises(ValueError, match=message):
        TransformOptions(**options).for_training(HALF, HALF)


def mix(seed=0, epoch=0, batch=0, options=MixupOptions()):  # noqa: B008 - it is frozen
    images, labels = torch.arange(8.0).reshape(8, 1, 1, 1).expand(8, 1, 6, 6).clone(), torch.arange(8) % 5
    return mixed(images, labels, options, 5, seed=seed, epoch=epoch, batch=batch)


def test_mixing_depends_on_seed_epoch_and_batch_alone():
    with untouched():
        images, targets = mix(epoch=2, batch=3)
    again = mix(epoch=2, batch=3)
    assert torch.equal(images, again[0])
    assert torch.equal(targets, again[1])
    for other in (mix(seed=1, epoch=2, batch=3), mix(epoch=3, batch=2)):
        assert not torch.equal(images, other[0])


def test_targets_say_what_is_in_the_picture():
    for batch in range(6):
        images, targets = mix(batch=batch)
        assert targets.dtype == torch.float32
        assert targets.shape == (8, 5)
        torch.testing.assert_close(targets.sum(1), torch.ones(8))
        share = targets[0, 0]
        torch.testing.assert_close(images[0].mean(), 7 * (1 - share), atol=1e-4, rtol=1e-4)


def test_mixing_never():
    images, targets = mix(options=MixupOptions(prob=0.0))
    assert torch.equal(images[:, 0, 0, 0], torch.arange(8.0))
    assert torch.equal(targets.argmax(1), torch.arange(8) % 5)


@pytest.mark.parametrize("options", [{"mixup": -1.0}, {"mixup": 0.0, "cutmix": 0.0}, {"prob": 2.0}])
def test_mixing_that_means_nothing(options):
    with pytest.raises(ValueError, match="must"):
        MixupOptions(**options)
