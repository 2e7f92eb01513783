"""Convolutions by the interpreter, beside torch's."""

import pytest
import torch
from product_twins import assert_close, drawn, finished, held_of, of_patches, signs_of, weight_of
from torch import Tensor

from proxconnect import Accumulator

CASES = [  # batch, channels, size, outputs, kernel, stride, padding, dilation
    (2, 3, (7, 6), 9, (3, 3), (1, 1), (1, 1), (1, 1)),
    (1, 5, (9, 8), 8, (3, 2), (2, 1), (0, 2), (1, 2)),
    (2, 70, (4, 5), 7, (1, 1), (2, 2), (0, 0), (1, 1)),
    (1, 16, (5, 5), 4, (5, 5), (1, 1), (0, 0), (1, 1)),
    (1, 1, (1, 9), 3, (1, 4), (1, 3), (0, 1), (1, 2)),
]


def images(batch: int, channels: int, size: tuple[int, int], form: str) -> Tensor:
    if form == "channels_last":
        return torch.randn(batch, channels, *size).contiguous(memory_format=torch.channels_last)
    if form == "apart":
        return torch.randn(batch, channels + 2, size[0], 2 * size[1])[:, 1:-1, :, ::2]
    return torch.randn(batch, channels, *size)


def drawn_weight(outputs: int, channels: int, kernel: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """A weight, and the same as rows whose columns are in the order (height, width, channel)."""
    signs = drawn(outputs, channels, *kernel)
    return signs, signs.permute(0, 2, 3, 1).flatten(1)


def format_of(output: Tensor) -> bool:
    return output.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize(("form", "dtype"), [("contiguous", torch.float32), ("channels_last", torch.bfloat16),
                                             ("apart", torch.float16)])  # fmt: skip
def test_of_floats(case, form: str, dtype: torch.dtype) -> None:
    from proxconnect.gpu.launch import Geometry, convolve

    batch, channels, size, outputs, kernel, *how = case
    image, (signs, rows) = images(batch, channels, size, form).to(dtype), drawn_weight(outputs, channels, kernel)
    scale, bias = torch.rand(outputs), torch.randn(outputs)
    found = convolve(image, weight_of(rows, scale, bias), Geometry(tuple(signs.shape), *how))
    assert found.dtype is dtype
    assert format_of(found)
    assert_close(found, finished(of_patches(image.double(), signs, *how), scale, bias, (1, 1)), image)


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize(("form", "border"), [("contiguous", 0), ("channels_last", 1), ("apart", -1)])
def test_of_signs(case, form: str, border: int) -> None:
    from proxconnect.gpu.launch import Geometry, convolve_signs

    batch, channels, size, outputs, kernel, *how = case
    image, (signs, rows) = images(batch, channels, size, form), drawn_weight(outputs, channels, kernel)
    image[0, 0, 0, 3], image[-1, -1, -1, -1] = -0.0, torch.nan
    scale, bias, accumulator = torch.rand(outputs), torch.randn(outputs), Accumulator(5, "saturate")
    weight, geometry = weight_of(rows, scale, bias), Geometry(tuple(signs.shape), *how)
    found = convolve_signs(image, weight, held_of(accumulator), geometry, border)
    assert found.is_contiguous() if image.is_contiguous() else format_of(found)
    sums = of_patches(signs_of(image), signs, *how, float(border))
    expected = finished(accumulator(sums), scale, bias, (1, 1))
    torch.testing.assert_close(found, expected, rtol=0, atol=0, equal_nan=True)


def test_programs_share_the_columns() -> None:
    from proxconnect.gpu.blocks import blocks_of
    from proxconnect.gpu.launch import Geometry, convolve, convolve_signs

    image, (signs, rows) = torch.randn(1, 230, 3, 3), drawn_weight(9, 230, (3, 3))
    assert blocks_of(9, 9, rows.shape[1] // 64, is_wide=True).splits > 1
    geometry, how = Geometry(tuple(signs.shape), (1, 1), (1, 1), (1, 1)), ((1, 1), (1, 1), (1, 1))
    assert_close(convolve(image, weight_of(rows), geometry), of_patches(image.double(), signs, *how), image)
    image[0, 3, 1, 2] = torch.nan
    found = convolve_signs(image, weight_of(rows), held_of(None), geometry, 1)
    torch.testing.assert_close(found, of_patches(signs_of(image), signs, *how, 1.0), rtol=0, atol=0, equal_nan=True)


def test_an_empty_batch_has_empty_outputs() -> None:
    from proxconnect.gpu.launch import Geometry, convolve, convolve_signs

    signs, rows = drawn_weight(9, 3, (3, 3))
    geometry, image = Geometry(tuple(signs.shape), (1, 1), (1, 1), (1, 1)), torch.zeros(0, 3, 5, 5)
    assert convolve(image, weight_of(rows), geometry).shape == (0, 9, 5, 5)
    assert convolve_signs(image, weight_of(rows), held_of(None), geometry, 0).shape == (0, 9, 5, 5)
