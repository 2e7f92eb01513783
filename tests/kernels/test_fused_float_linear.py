"""A product of floats with signs and the steps after it, against the product by itself and torch's own steps."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy

import pytest
import torch
from draws import drawn, each
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from proxconnect import kernels
from proxconnect.kernels import Add, Affine, Clamp, FusedFloatLinear, Slope
from proxconnect.kernels.bits import pack_bits
from proxconnect.kernels.steps import Step

pytestmark = pytest.mark.skipif(not kernels.is_built(), reason="the kernels were not built")


def same(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and torch.equal(a.isnan(), b.isnan()) and torch.equal(a.nan_to_num(), b.nan_to_num())


def plain(x: Tensor, panels: Tensor, rows: int, scale: Tensor | None, bias: Tensor | None, rounds: bool, isa: str):
    multiply = kernels.dynamic_int8_linear if rounds else kernels.weight_only_linear
    return multiply(x, panels, rows, scale, bias, isa)


def stepped(x: Tensor, steps: list[Step], others: list[Tensor]) -> Tensor:
    """One step after another by torch."""
    added = iter(others)
    for step in steps:
        match step:
            case Affine(a, b):
                x = (x.double() * a.double() + b.double()).float()
            case Clamp(low, high):
                x = x.clamp(low, high)
            case Slope(a):
                x = torch.where(x > 0, x, a * x)
            case Add():
                x = x + next(added)
    return x


@each
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_equal_to_the_product_and_its_steps(instruction_set: str, data: st.DataObject) -> None:
    lead = data.draw(st.lists(st.integers(0, 9), max_size=3))
    columns = data.draw(st.integers(1, 300) | st.sampled_from([64, 128, 192]))
    rows, rounds, offset = data.draw(st.integers(1, 150)), data.draw(st.booleans()), data.draw(st.integers(0, 3))
    x, weight = drawn(*lead, columns + offset)[..., offset:], drawn(rows, columns, seed=1)
    if x.numel() and data.draw(st.booleans()):
        what = data.draw(st.sampled_from([torch.nan, torch.inf, 1e-42]))
        x.select(0, -1).fill_(what) if len(lead) else x[:1].fill_(what)
    grouped = drawn(rows, columns // 64, seed=2)
    groups = [] if columns % 64 else [kernels.group_scales(grouped), kernels.group_scales(grouped.half())]
    scale = data.draw(st.sampled_from([None, torch.tensor([0.3]), drawn(rows, seed=2), *groups]))
    bias = data.draw(st.sampled_from([None, drawn(rows, seed=3)]))
    a, b, other = drawn(rows, seed=4), drawn(rows, seed=5), drawn(*lead, rows, seed=6)
    steps = data.draw(st.lists(st.sampled_from([Affine(a, b), Clamp(-0.5, 2.0), Slope(a), Add()]), max_size=4))
    others = [other + i for i, step in enumerate(steps) if isinstance(step, Add)]
    panels = kernels.panels(pack_bits(weight), rows, columns)
    fused = FusedFloatLinear(panels, columns, rows, scale, bias, tuple(steps), rounds, instruction_set)
    expected = stepped(plain(x, panels, rows, scale, bias, rounds, instruction_set), steps, others)
    assert same(fused(x, *others), expected)


@each
@pytest.mark.parametrize("rounds", [False, True])
def test_threads_do_not_change_it(instruction_set: str, rounds: bool) -> None:
    """Those of the kernels, where rows and where outputs are shared out, and those of Python that call it at once."""
    before = torch.get_num_threads()
    try:
        for batch, columns, rows in ((201, 192, 100), (12, 1000, 301), (60, 700, 64)):
            weight, other = drawn(rows, columns, seed=1), drawn(batch, rows, seed=2)
            panels, bias = kernels.panels(pack_bits(weight), rows, columns), drawn(rows, seed=3)
            fused = FusedFloatLinear(
                panels, columns, rows, None, bias, (Add(), Clamp(0.0, 9.0)), rounds, instruction_set
            )
            inputs = [(9 * drawn(batch, columns, seed=i)).round() for i in range(4)]  # whose sums no order changes
            torch.set_num_threads(1)
            alone = [fused(x, other) for x in inputs]
            torch.set_num_threads(3)
            with ThreadPoolExecutor(8) as pool:
                together = list(pool.map(lambda x, fused=fused, other=other: fused(x, other), inputs * 6))
            assert all(same(got, alone[i % 4]) for i, got in enumerate(together))
    finally:
        torch.set_num_threads(before)


def made(**options: object) -> FusedFloatLinear:
    panels = kernels.panels(pack_bits(drawn(9, 70)), 9, 70)
    return FusedFloatLinear(panels, 70, 9, **{"then": (Add(),), **options})  # type: ignore[arg-type]  # as they are


def test_copies_compute_the_same() -> None:
    fused, x, other = made(rounds=True, scale=drawn(9)), drawn(3, 70), drawn(3, 9)
    assert same(deepcopy(fused)(x, other), fused(x, other))


@pytest.mark.parametrize(
    ("wrong", "error", "said"),
    [
        (lambda: made()(drawn(3, 70)), ValueError, "add 1 other tensors; got 0"),
        (lambda: made()(drawn(3, 70), drawn(3, 8)), ValueError, r"must be \(3, 9\)"),
        (lambda: made()(drawn(3, 71), drawn(3, 9)), ValueError, r"input must be \(…, 70\)"),
        (lambda: made()(torch.tensor(1.0), torch.tensor(1.0)), ValueError, r"input must be \(…, 70\)"),
        (lambda: made()(drawn(3, 70).double(), drawn(3, 9)), TypeError, "input must be float32"),
        (lambda: made(bias=drawn(8)), ValueError, "bias must have 9 entries"),
        (lambda: made(instruction_set="sse"), ValueError, "this machine runs"),
    ],
)
def test_bad_use_is_refused(wrong: Callable[[], object], error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        wrong()
