"""Selections: disjoint, by class, nested, always the same."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from proxconnect.training.data.loaders import by_class, select
from proxconnect.training.data.pictures import DatasetError


@given(st.lists(st.integers(0, 4), min_size=1, max_size=80), st.integers(0, 9))
def test_every_prefix_holds_each_class_in_its_share_to_within_one(labels, seed):
    labels = torch.tensor(labels)
    order = by_class(labels, seed)
    assert torch.equal(order.sort().values, torch.arange(len(labels)))
    shares = labels.bincount() / len(labels)
    for length in range(len(labels) + 1):
        counts = labels[order[:length]].bincount(minlength=len(shares))
        assert ((counts - length * shares).abs() < len(shares)).all()


def test_classes_of_one_size_differ_by_at_most_one():
    labels = torch.arange(10).repeat(100)
    order = by_class(labels, seed=0)
    for length in (10, 55, 500):
        counts = labels[order[:length]].bincount(minlength=10)
        assert counts.max() - counts.min() <= 1


def test_held_out_and_used_pictures_are_disjoint_and_the_same_whatever_the_subset():
    labels = torch.arange(1000) % 10
    train, held_out = select(labels, validation=200, subset=None, seed=3)
    assert sorted(train.tolist() + held_out.tolist()) == list(range(1000))
    smaller, also_held_out = select(labels, validation=200, subset=100, seed=3)
    larger, _ = select(labels, validation=200, subset=300, seed=3)
    assert torch.equal(held_out, also_held_out)
    assert set(smaller.tolist()) < set(larger.tolist()) < set(train.tolist())
    assert labels[held_out].bincount().tolist() == [20] * 10
    assert labels[smaller].bincount().tolist() == [10] * 10
    assert not torch.equal(held_out, select(labels, 200, None, seed=4)[1])


@pytest.mark.parametrize(
    ("validation", "subset", "message"),
    [
        (100, None, "validation=100"),
        (-1, None, "validation=-1"),
        (40, 61, "of which 40 are held out"),
        (0, 0, "subset=0"),
    ],
)
def test_more_than_there_are(validation, subset, message):
    with pytest.raises(DatasetError, match=message):
        select(torch.arange(100) % 10, validation, subset, seed=0)
