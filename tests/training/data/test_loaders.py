"""Streams: resumed anywhere they go on as if nothing had happened, whoever makes the batches."""

from functools import partial
from itertools import chain, islice

import pytest
import torch

from proxconnect.training.data.loaders import Batches, InTurn, Shuffled, TrainLoader
from proxconnect.training.data.transforms import Standardisation, flipped_and_cropped

COUNT, LENGTH = 23, 5


def batches(rank: int = 0, world: int = 1, workers: int = 0) -> Batches:
    images = (torch.arange(COUNT * 16) % 251).to(torch.uint8).reshape(COUNT, 1, 4, 4)
    view = partial(flipped_and_cropped, images, Standardisation((100.0,), (50.0,)), True, 1, 7)
    order = Shuffled(torch.arange(COUNT), 4 // world, 7, rank, world)
    return Batches(view, torch.arange(COUNT), order, workers)


def same(ours, theirs) -> bool:
    return len(ours) == len(theirs) and all(
        torch.equal(mine, other) for pair in zip(ours, theirs, strict=True) for mine, other in zip(*pair, strict=True)
    )


@pytest.fixture(scope="module")
def unbroken():
    loader = TrainLoader(batches())
    return [batch for _ in range(3) for batch in loader]


def test_each_epoch_has_its_own_order(unbroken):
    assert len(unbroken) == 3 * LENGTH
    assert not same(unbroken[:LENGTH], unbroken[LENGTH : 2 * LENGTH])


@pytest.mark.parametrize("epoch", [0, 1])
@pytest.mark.parametrize("batch", range(LENGTH + 1))
def test_resumed_anywhere_it_equals_the_unbroken_stream(unbroken, epoch, batch):
    loader = TrainLoader(batches())
    loader.start_at(epoch, batch)
    rest = 3 - epoch if batch < LENGTH else 2 - epoch
    assert same(list(chain(*(loader for _ in range(rest)))), unbroken[epoch * LENGTH + batch :])
    assert len(loader) == LENGTH


def test_its_position_is_where_to_resume(unbroken):
    loader = TrainLoader(batches())
    assert loader.position == (0, 0)
    for number, _ in enumerate(chain(loader, loader)):
        assert loader.latest == divmod(number, LENGTH)
        assert loader.position == divmod(number + 1, LENGTH)
        resumed = TrainLoader(batches())
        resumed.start_at(*loader.position)
        assert same([next(iter(resumed))], [unbroken[number + 1]])


def test_an_epoch_that_is_left_early_is_over_and_one_not_begun_is_not(unbroken):
    loader = TrainLoader(batches())
    iter(loader)
    assert same(list(islice(loader, 2)), unbroken[:2])
    assert same(list(loader), unbroken[LENGTH : 2 * LENGTH])


def test_worker_processes_make_no_difference(unbroken):
    loader = TrainLoader(batches(workers=2))
    loader.start_at(0, 2)
    assert same(list(loader), unbroken[2:LENGTH])


def test_two_ranks_see_what_one_would(unbroken):
    ranks = [list(TrainLoader(batches(rank, world=2))) for rank in range(2)]
    for (images, labels), *parts in zip(unbroken[:LENGTH], *ranks, strict=True):
        joined_images, joined_labels = (torch.cat(part) for part in zip(*parts, strict=True))
        places = [labels.tolist().index(label) for label in joined_labels.tolist()]
        assert sorted(places) == list(range(4))
        assert torch.equal(joined_images, images[places])


@pytest.mark.parametrize("workers", [0, 1])
def test_no_global_random_number_is_taken(workers):
    before = torch.get_rng_state()
    list(TrainLoader(batches(workers=workers)))
    assert torch.equal(before, torch.get_rng_state())


def test_evaluation_is_the_same_each_time():
    order = InTurn(torch.arange(COUNT), 10)
    loader = Batches(batches().view, torch.arange(COUNT), order)
    assert [len(labels) for _, labels in loader] == [8, 8, 7]
    assert same(list(loader), list(loader))


@pytest.mark.parametrize("place", [(-1, 0), (0, -1), (0, LENGTH + 1)])
def test_there_is_no_such_batch(place):
    with pytest.raises(ValueError, match=r"an epoch has batches 0 to 4"):
        TrainLoader(batches()).start_at(*place)
