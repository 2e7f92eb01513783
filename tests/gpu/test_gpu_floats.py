"""Floats times signs by the interpreter, beside products in float64."""

import pytest
import torch
from product_twins import assert_close, drawn, of_floats, weight_of
from torch import Tensor

from proxconnect.kernels import group_scales

DTYPES = torch.float32, torch.float16, torch.bfloat16


def multiply(x: Tensor, signs: Tensor, scale: Tensor | None = None, bias: Tensor | None = None) -> Tensor:
    from proxconnect.gpu.launch import multiply

    return multiply(x, weight_of(signs, scale, bias))


@pytest.mark.covering
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rows", [0, 1, 2, 33])
@pytest.mark.parametrize("columns", [1, 63, 64, 65])
@pytest.mark.parametrize("outputs", [1, 7, 9, 33])
def test_of_all_sizes(rows: int, columns: int, outputs: int, dtype: torch.dtype) -> None:
    x, signs, scale, bias = torch.randn(rows, columns).to(dtype), drawn(outputs, columns), torch.rand(outputs), None
    if outputs > 1:
        bias = torch.randn(outputs)
    found = multiply(x, signs, scale, bias)
    assert found.dtype is dtype
    assert found.is_contiguous()
    assert_close(found, of_floats(x, signs, scale, bias), x)


@pytest.mark.parametrize("rows", [1, 2])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_programs_share_the_columns(rows: int, dtype: torch.dtype) -> None:
    from proxconnect.gpu.blocks import blocks_of

    assert blocks_of(rows, 9, 41).splits > 1
    x, signs, bias = torch.randn(rows, 2600).to(dtype), drawn(9, 2600), torch.randn(9)
    found = multiply(x, signs, torch.tensor(0.3), bias)
    assert_close(found, of_floats(x, signs, torch.tensor([0.3]), bias), x)
    assert torch.equal(multiply(x, signs, torch.tensor(0.3), bias), found)


@pytest.mark.parametrize("rows", [1, 3])
def test_scale_and_bias_may_have_another_dtype_than_the_input(rows: int) -> None:
    x, signs = torch.randn(rows, 70), drawn(9, 70)
    scale, bias = torch.rand(9).half(), torch.randn(9).bfloat16()
    assert_close(multiply(x, signs, scale, bias), of_floats(x, signs, scale, bias), x)


@pytest.mark.parametrize("rows", [1, 5])
@pytest.mark.parametrize(("group", "groups"), [(64, 3), (128, 2), (192, 4)])
def test_scales_of_groups(rows: int, group: int, groups: int) -> None:
    x, signs, scales = torch.randn(rows, group * groups), drawn(37, group * groups), torch.rand(37, groups)
    bias = torch.randn(37)
    scaled = signs * scales.repeat_interleave(group, 1)
    assert_close(multiply(x, signs, group_scales(scales), bias), of_floats(x, scaled, None, bias), x)
    halves = scales.half().float()
    scaled = signs * halves.repeat_interleave(group, 1)
    laid_out = group_scales(halves)
    assert laid_out.dtype is torch.float16
    assert_close(multiply(x, signs, laid_out), of_floats(x, scaled, None, None), x)


@pytest.mark.parametrize("rows", [1, 4])
def test_rows_of_any_distance(rows: int) -> None:
    signs = drawn(9, 70)
    wide = torch.randn(rows, 3, 100)
    x = wide[:, 1, 5:75]
    assert_close(multiply(x, signs), of_floats(x, signs, None, None), x)
    x = torch.randn(1, 70).expand(rows, 70)
    assert_close(multiply(x, signs), of_floats(x, signs, None, None), x)


@pytest.mark.parametrize("rows", [1, 2])
def test_float32_is_multiplied_exactly(rows: int) -> None:
    largest, payload = torch.finfo(torch.float32).max, torch.tensor(0x7F800001, dtype=torch.int32).view(torch.float32)
    special = torch.tensor([largest, -largest, torch.inf, -torch.inf, torch.nan, 0, payload])
    signs = drawn(9, 1)
    for value in torch.cat([torch.randn(5), special]):
        x = value.repeat(rows, 1)
        assert torch.equal(multiply(x, signs).nan_to_num(nan=7), (x * signs.T).nan_to_num(nan=7))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rows", [1, 4])
def test_infinities_and_nan_stay_in_their_rows(rows: int, dtype: torch.dtype) -> None:
    x, signs = torch.randn(4, 70).to(dtype), drawn(9, 70)
    x[0, 3], x[1, 66], x[2, 0], x[2, 69] = torch.nan, torch.inf, -torch.inf, torch.inf
    for some in x.split(rows):
        expected = of_floats(some, signs, None, None)
        found = multiply(some, signs)
        assert torch.equal(found.isnan(), expected.isnan())
        assert torch.equal(found.isinf(), expected.isinf())
        finite = expected.isfinite().all(1)
        assert_close(found[finite], expected[finite], some)
        assert torch.equal(found.sign()[expected.isinf()].double(), expected.sign()[expected.isinf()])
