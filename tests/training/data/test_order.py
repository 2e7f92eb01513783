"""Orders: every picture once, the same for any number of ranks, blocks read once."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from proxconnect.training.data import loaders
from proxconnect.training.data.loaders import InTurn, Shuffled, share
from proxconnect.training.data.pictures import DatasetError


def epoch_of(shuffled: Shuffled, epoch: int) -> list[int]:
    return [row for batch in range(len(shuffled)) for row in shuffled.rows(epoch, batch).tolist()]


def test_an_epoch_holds_each_picture_at_most_once_and_is_a_pure_function():
    chosen = torch.arange(0, 200, 2)
    shuffled = Shuffled(chosen, batch_size=8, seed=1)
    first, second = epoch_of(shuffled, 0), epoch_of(shuffled, 1)
    assert len(set(first)) == len(first) == 96
    assert set(first) <= set(chosen.tolist())
    assert first != second
    assert first == epoch_of(shuffled, 0) == epoch_of(Shuffled(chosen, 8, seed=1), 0)
    assert first != epoch_of(Shuffled(chosen, 8, seed=2), 0)


@given(st.integers(1, 5), st.integers(1, 4), st.integers(0, 3))
def test_ranks_together_see_the_batches_of_one_with_the_joint_batch(batch_size, world, epoch):
    chosen = torch.arange(61)
    alone = Shuffled(chosen, batch_size * world, seed=5)
    ranks = [Shuffled(chosen, batch_size, 5, rank, world) for rank in range(world)]
    for batch in range(len(alone)):
        parts = [rank.rows(epoch, batch) for rank in ranks]
        assert all(len(part) == batch_size for part in parts)
        assert torch.equal(torch.cat(parts).sort().values, alone.rows(epoch, batch).sort().values)


@pytest.mark.parametrize(("half", "world"), [(1, 2), (3, 2), (2, 3), (4, 1)])
def test_pictures_that_mixing_joins_are_on_one_rank(half, world):
    joint = 2 * half * world
    for rank in range(world):
        mine = share(joint, rank, world)
        assert torch.equal(mine + mine.flip(0), torch.full((2 * half,), joint - 1))


def test_blocks_are_read_once_an_epoch(monkeypatch):
    monkeypatch.setattr(loaders, "WINDOW", 40)
    blocks = torch.arange(30).repeat_interleave(10)
    shuffled = Shuffled(torch.arange(300), 10, seed=0, blocks=blocks)
    rows = epoch_of(shuffled, 0)
    assert sorted(rows) == list(range(300))
    windows = [frozenset(blocks[rows[first : first + 40]].tolist()) for first in range(0, 300, 40)]
    assert all(len(window) <= 4 for window in windows)
    assert sum(map(len, windows)) == 30
    assert windows[0] != {0, 1, 2, 3}
    assert rows[:40] != sorted(rows[:40])
    assert rows != epoch_of(shuffled, 1)


@given(st.integers(1, 60), st.integers(1, 9), st.integers(1, 4))
def test_evaluation_sees_each_picture_once_in_as_many_batches_on_each_rank(count, batch_size, world):
    if count < world * -(-count // (batch_size * world)):
        return
    ranks = [InTurn(torch.arange(count), batch_size, rank, world) for rank in range(world)]
    assert len({len(rank) for rank in ranks}) == 1
    parts = [rank.rows(0, batch) for rank in ranks for batch in range(len(rank))]
    assert sorted(torch.cat(parts).tolist()) == list(range(count))
    assert max(map(len, parts)) <= batch_size
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_too_few_pictures():
    with pytest.raises(DatasetError, match=r"15 pictures .* batch of 8 on each of 2 processes: lower batch_size to 7"):
        Shuffled(torch.arange(15), 8, seed=0, rank=0, world=2)
    with pytest.raises(DatasetError, match="2 pictures to evaluate on, but 3 processes need at least 3"):
        InTurn(torch.arange(2), 8, rank=0, world=3)
    with pytest.raises(DatasetError, match="5 pictures to evaluate on, but 4 processes need at least 8"):
        InTurn(torch.arange(5), 1, rank=0, world=4)
