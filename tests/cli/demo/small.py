"""A piece of the digits that trains in a moment."""

from dataclasses import replace

from proxconnect.training import data


def some_digits(train: int = 128, test: int = 50) -> data.Dataset:
    digits = data.load("digits")
    return replace(
        digits,
        train_images=digits.train_images[:train],
        train_labels=digits.train_labels[:train],
        test_images=digits.test_images[:test],
        test_labels=digits.test_labels[:test],
    )
