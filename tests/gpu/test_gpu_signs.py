"""Signs times signs by the interpreter, which must be exact."""

import pytest
import torch
from product_twins import drawn, held_of, of_signs, weight_of
from torch import Tensor

from proxconnect import Accumulator, kernels
from proxconnect.kernels.bits import pack_bits

ACCUMULATORS = (
    None, Accumulator(4), Accumulator(4, "saturate"), Accumulator(4, "cyclic"), Accumulator(5, "cyclic", slope=0.7),
)  # fmt: skip


def multiply(x: Tensor, signs: Tensor, scale=None, bias=None, accumulator: Accumulator | None = None) -> Tensor:
    from proxconnect.gpu.launch import multiply_signs

    return multiply_signs(x, weight_of(signs, scale, bias), held_of(accumulator))


def assert_equal(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=0, atol=0, equal_nan=True)


@pytest.mark.covering
@pytest.mark.parametrize("rows", [0, 1, 2, 33])
@pytest.mark.parametrize("columns", [1, 63, 64, 65])
@pytest.mark.parametrize("outputs", [1, 7, 9, 33])
def test_of_all_sizes(rows: int, columns: int, outputs: int) -> None:
    x, signs = torch.randn(rows, columns), drawn(outputs, columns)
    scale, bias = torch.rand(outputs), torch.randn(outputs)
    x[:, ::5] = 0.0
    x[:, ::10] = -0.0
    assert_equal(multiply(x, signs, scale, bias), of_signs(x, signs, scale, bias, None))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("rows", [1, 3])
def test_of_other_dtypes(rows: int, dtype: torch.dtype) -> None:
    x, signs = torch.randn(rows, 70).to(dtype), drawn(9, 70)
    found = multiply(x, signs)
    assert found.dtype is dtype
    assert_equal(found, of_signs(x, signs, None, None, None).to(dtype))


@pytest.mark.parametrize("accumulator", ACCUMULATORS, ids=str)
@pytest.mark.parametrize(("rows", "columns"), [(1, 2600), (6, 90)])
def test_accumulators_overflow_as_on_cpus(accumulator: Accumulator | None, rows: int, columns: int) -> None:
    x, signs, scale, bias = torch.randn(rows, columns), drawn(9, columns), torch.rand(9), torch.randn(9)
    found = multiply(x, signs, scale, bias, accumulator)
    assert_equal(found, of_signs(x, signs, scale, bias, accumulator))
    if kernels.is_built():
        panels = kernels.panels(pack_bits(signs), *signs.shape)
        assert_equal(found, kernels.binary_linear(x, panels, 9, scale, bias, accumulator))


@pytest.mark.parametrize(
    ("accumulator", "columns"), [(None, 70), (None, 2600), *((accumulator, 70) for accumulator in ACCUMULATORS[1:4])]
)
def test_a_row_with_nan_becomes_nan(accumulator: Accumulator | None, columns: int) -> None:
    x, signs = torch.randn(3, columns), drawn(9, columns)
    x[0, 3], x[1, -1], x[2, 0], x[2, 1] = torch.nan, torch.nan, torch.inf, -torch.inf
    expected = of_signs(x, signs, None, None, accumulator)
    assert expected.isnan().all(1).tolist() == [True, True, False]
    assert_equal(multiply(x, signs, None, None, accumulator), expected)
    assert_equal(torch.cat([multiply(row, signs, None, None, accumulator) for row in x.split(1)]), expected)


def test_rows_of_any_distance() -> None:
    x, signs = torch.randn(3, 200)[:, 7:77], drawn(9, 70)
    assert_equal(multiply(x, signs), of_signs(x, signs, None, None, None))
    assert_equal(multiply(x[1:2], signs), of_signs(x[1:2], signs, None, None, None))
