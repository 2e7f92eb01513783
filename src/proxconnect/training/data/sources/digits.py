"""The digits of scikit-learn."""

import torch

from proxconnect._support import extras
from proxconnect.training.data.pictures import Splits, TensorPictures


def read_digits() -> Splits[TensorPictures]:
    """Return 1797 handwritten digits, 8 x 8, ink from 0 to 240: 1347 to train, 450 to test, split by class.

    Source: UCI, Optical Recognition of Handwritten Digits.
    """
    datasets = extras.require("sklearn.datasets", "demo")
    selection = extras.require("sklearn.model_selection", "demo")
    pixels, labels = (torch.from_numpy(part) for part in datasets.load_digits(return_X_y=True))
    images = (pixels * 15).to(torch.uint8).reshape(-1, 1, 8, 8)
    rows = selection.train_test_split(range(len(labels)), test_size=450, random_state=0, stratify=labels)
    train, test = (TensorPictures(images[part], labels[part].long()) for part in rows)
    return Splits(train, test, classes=10)
