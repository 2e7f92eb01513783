"""splitmix64 against a twin in Python's whole numbers and a published value."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from proxconnect.training.data.hashing import Purpose, hashed, seeds, uniform

MASK = (1 << 64) - 1


def scrambled(state: int) -> int:
    state = (state + 0x9E3779B97F4A7C15) & MASK
    state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & MASK
    return state ^ (state >> 31)


def test_the_twin_gives_the_published_first_number_of_seed_zero():
    assert scrambled(0) == 0xE220A8397B1DCDAF


@given(st.lists(st.integers(-(2**31), 2**31), max_size=4), st.sampled_from(list(Purpose)))
def test_equals_the_twin(counters, purpose):
    expected = scrambled(purpose)
    for counter in counters:
        expected = scrambled((expected + counter) & MASK)
    assert int(hashed(purpose, *counters)) & MASK == expected
    assert int(seeds(purpose, *counters)) == expected >> 1
    assert uniform(purpose, *counters).item() == (expected >> 11) / 2**53


def test_an_entry_does_not_depend_on_the_others():
    rows = torch.tensor([5, 3, 900, 3])
    whole = uniform(Purpose.FLIP_AND_CROP, 1, 2, rows.unsqueeze(1), torch.arange(3))
    assert torch.equal(whole[1], whole[3])
    assert torch.equal(whole[2, 1], uniform(Purpose.FLIP_AND_CROP, 1, 2, 900, 1))


def test_numbers_are_uniform_and_purposes_independent():
    first, second = (uniform(purpose, 0, torch.arange(20000)) for purpose in (Purpose.SPLIT, Purpose.ORDER))
    for numbers in (first, second):
        assert (numbers.histc(10, 0, 1) - 2000).abs().max() < 200
    assert torch.stack((first, second)).corrcoef()[0, 1].abs() < 0.03
