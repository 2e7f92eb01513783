"""Flips and crops of a batch against pictures taken one by one."""

from functools import partial

import torch
from torch.nn import functional

from proxconnect.training.data.loaders import View
from proxconnect.training.data.transforms import Standardisation, flipped_and_cropped, windows


def test_windows_equal_slices():
    images = torch.randint(1, 256, (20, 3, 5, 6), dtype=torch.uint8)
    down, right = torch.randint(0, 5, (2, 20))
    mirrored = torch.rand(20) < 0.5
    for index, picture in enumerate(windows(images, 2, down, right, mirrored)):
        line, column = int(down[index]), int(right[index])
        expected = functional.pad(images[index], (2, 2, 2, 2))[:, line : line + 5, column : column + 6]
        assert torch.equal(picture, expected.flip(-1) if mirrored[index] else expected)


def view(flip: bool, crop: int, seed: int = 0, size: int = 400) -> tuple[torch.Tensor, View]:
    images = torch.randint(1, 256, (size, 1, 4, 4), dtype=torch.uint8)
    return images, partial(flipped_and_cropped, images, Standardisation((0.0,), (1.0,)), flip, crop, seed)


def test_half_are_flipped_and_all_shifts_occur():
    images, flipped = view(flip=True, crop=0)
    seen = flipped(torch.arange(400), epoch=0)
    as_they_were = (seen == images).flatten(1).all(1)
    assert torch.equal(seen[~as_they_were], images[~as_they_were].flip(-1).float())
    assert 160 < as_they_were.sum() < 240
    images, cropped = view(flip=False, crop=1)
    seen = cropped(torch.arange(400), epoch=0)
    borders = torch.stack([(seen[:, 0, 0] == 0).all(1), (seen[:, 0, -1] == 0).all(1)])
    assert ((borders.sum(1) - 400 / 3).abs() < 40).all()


def test_a_picture_looks_alike_in_any_batch_and_anew_in_each_epoch():
    _, augmented = view(flip=True, crop=2)
    whole = augmented(torch.arange(400), epoch=3)
    assert torch.equal(augmented(torch.tensor([7, 399, 0]), epoch=3), whole[[7, 399, 0]])
    assert not torch.equal(augmented(torch.arange(400), epoch=4), whole)


def test_standardisation_is_that_of_float64():
    images = torch.randint(0, 256, (50, 3, 4, 5), dtype=torch.uint8)
    standardise = Standardisation.of(images)
    pixels = images.double()
    mean, deviation = pixels.mean((0, 2, 3), keepdim=True), pixels.transpose(0, 1).flatten(1).std(1).reshape(1, 3, 1, 1)
    torch.testing.assert_close(standardise(images), ((pixels - mean) / deviation).float(), rtol=1e-6, atol=1e-7)


def test_a_channel_of_one_value_becomes_zero():
    images = torch.full((4, 1, 2, 2), 7, dtype=torch.uint8)
    assert torch.equal(Standardisation.of(images)(images), torch.zeros(4, 1, 2, 2))
