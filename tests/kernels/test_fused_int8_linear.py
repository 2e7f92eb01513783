"""8-bit linear layers with what follows them in one pass, against the operators one after another."""

import copy
import pickle

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from proxconnect import kernels
from proxconnect.kernels.finish import Finish
from proxconnect.kernels.fused_linear import FusedInt8Linear
from proxconnect.kernels.steps import Add, Affine, Clamp, Slope, Step

pytestmark = pytest.mark.skipif(not kernels.is_built(), reason="the kernels were not built")

SETS = kernels.instruction_sets() or ("portable",)


@given(
    rows=st.sampled_from([(0,), (1,), (2, 5), (40,)]), outputs=st.integers(1, 90), entries=st.integers(1, 200),
    count=st.integers(0, 4), has_scale=st.booleans(), has_bias=st.booleans(), instruction_set=st.sampled_from(SETS),
)  # fmt: skip
def test_it_equals_one_after_another(
    rows: tuple[int, ...], outputs: int, entries: int, count: int, has_scale: bool, has_bias: bool, instruction_set: str
) -> None:
    levels, input = torch.randint(-127, 128, (outputs, entries), dtype=torch.int8), torch.randn(*rows, entries)
    scale, bias = torch.randn(outputs) if has_scale else None, torch.randn(outputs) if has_bias else None
    all_steps = Affine(torch.randn(outputs), torch.randn(outputs)), Add(), Clamp(-3.0, 2.0), Slope(torch.randn(outputs))
    then: tuple[Step, ...] = all_steps[:count]
    others = (torch.randn(*rows, outputs),) if count > 1 else ()
    panels = kernels.int8_panels(levels)
    plain = kernels.int8_linear(input, panels, outputs, scale, bias, instruction_set)
    fused = FusedInt8Linear(panels, entries, outputs, scale, bias, then, instruction_set)
    assert torch.equal(fused(input, *others), Finish(then, outputs, instruction_set)(plain, *others))


def test_two_threads() -> None:
    input, levels = torch.randn(200, 300), torch.randint(-127, 128, (200, 300), dtype=torch.int8)
    fused = FusedInt8Linear(kernels.int8_panels(levels), 300, 200)
    expected = fused(input)
    torch.set_num_threads(2)
    try:
        assert torch.equal(fused(input), expected)
        assert torch.equal(fused(input[:3]), expected[:3])
    finally:
        torch.set_num_threads(1)


def test_copies_and_what_does_not_fit() -> None:
    panels = kernels.int8_panels(torch.randint(-127, 128, (5, 6), dtype=torch.int8))
    fused, row = FusedInt8Linear(panels, 6, 5, bias=torch.randn(5)), torch.randn(6)
    for twin in (copy.deepcopy(fused), pickle.loads(pickle.dumps(fused))):
        assert torch.equal(twin(row), fused(row))
    with pytest.raises(ValueError, match=r"input must be \(…, 6\)"):
        fused(torch.randn(2, 7))
    with pytest.raises(TypeError, match="input must be float32"):
        fused(row.double())
    with pytest.raises(ValueError, match="0 < in"):
        FusedInt8Linear(panels, 0, 5)
    with pytest.raises(ValueError, match="the panels of such a weight"):
        FusedInt8Linear(panels, 70, 5)
