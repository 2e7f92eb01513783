"""Products of rounded inputs with whole numbers, against sums in float64, which holds them exactly."""

from itertools import product

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from proxconnect import kernels

pytestmark = pytest.mark.skipif(not kernels.is_built(), reason="the kernels were not built")

SETS = kernels.instruction_sets()


def rounded(input: Tensor, dims: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Whole numbers within ±127, and the step."""
    most = input.abs().amax(dims, keepdim=True).clamp(min=2.0**-100)
    return torch.round(input * (torch.full_like(most, 127) / most)), most / 127


def weights(*shape: int) -> tuple[Tensor, Tensor, Tensor]:
    """Whole numbers, scales and biases."""
    return torch.randint(-127, 128, shape, dtype=torch.int8), torch.randn(shape[0]), torch.randn(shape[0])


@pytest.mark.parametrize("instruction_set", SETS)
@given(rows=st.integers(0, 40), outputs=st.integers(1, 70), entries=st.integers(1, 200))
def test_linear(instruction_set: str, rows: int, outputs: int, entries: int) -> None:
    input, (levels, scale, bias) = torch.randn(rows, entries), weights(outputs, entries)
    whole, step = rounded(input, (1,))
    expected = (whole.double() @ levels.double().T).float() * step * scale + bias
    panels = kernels.int8_panels(levels)
    assert torch.equal(kernels.int8_linear(input, panels, outputs, scale, bias, instruction_set), expected)


@pytest.mark.parametrize("instruction_set", SETS)
@given(
    channels=st.integers(1, 70), outputs=st.integers(1, 40), kernel=st.tuples(st.integers(1, 3), st.integers(1, 4)),
    stride=st.integers(1, 3), padding=st.integers(0, 3), dilation=st.integers(1, 2), is_last=st.booleans(),
)  # fmt: skip
def test_conv(
    instruction_set: str, channels: int, outputs: int, kernel: tuple[int, int], stride: int, padding: int,
    dilation: int, is_last: bool,
) -> None:  # fmt: skip
    memory_format = torch.channels_last if is_last else torch.contiguous_format
    input = torch.randn(2, channels, 8, 9).to(memory_format=memory_format)
    levels, scale, bias = weights(outputs, channels, *kernel)
    geometry = (stride, stride), (padding, 0), (1, dilation)
    whole, step = rounded(input, (1, 2, 3))
    sums = functional.conv2d(whole.double(), levels.double(), None, *geometry).float()
    panels = kernels.int8_panels(levels, geometry[2])
    output = kernels.int8_conv2d(input, panels, levels.shape, *geometry, scale, bias, instruction_set)
    assert torch.equal(output, sums * step * scale[:, None, None] + bias[:, None, None])
    assert output.is_contiguous(memory_format=torch.contiguous_format if input.is_contiguous() else memory_format)


def test_images_that_lie_anyhow() -> None:
    levels, *_ = weights(5, 6, 1, 1)
    panels, shape = kernels.int8_panels(levels), levels.shape
    image = torch.randn(2, 6, 9, 7)
    for whole in (image, image.to(memory_format=torch.channels_last), image.transpose(2, 3), image.permute(0, 3, 2, 1)):
        channels = whole[:, :6]
        for input in (channels, channels[:, :, ::2, ::2], channels[:1], channels[:0], channels[:, :, :1, :1]):
            expected = kernels.int8_conv2d(input.clone(memory_format=torch.contiguous_format), panels, shape)
            assert torch.equal(kernels.int8_conv2d(input, panels, shape), expected)


@pytest.mark.parametrize("what", [float("nan"), float("inf"), -float("inf")])
def test_nan(what: float) -> None:
    levels, *_ = weights(5, 6, 1, 1)
    rows, images = torch.randn(3, 6), torch.randn(3, 6, 2, 2)
    rows[1, 5] = images[1, 5, 0, 1] = what
    panels = kernels.int8_panels(levels[:, :, 0, 0])
    assert kernels.int8_linear(rows, panels, 5).isnan().all(1).tolist() == [False, True, False]
    answer = kernels.int8_conv2d(images, panels, levels.shape)
    assert answer.isnan().flatten(1).all(1).tolist() == [False, True, False]
    assert not answer[::2].isnan().any()


def test_the_largest_sums() -> None:
    levels = torch.full((16, 2**17), -127, dtype=torch.int8)
    for sign, instruction_set in product((1.0, -1.0), SETS):
        output = kernels.int8_linear(
            torch.full((1, 2**17), sign), kernels.int8_panels(levels), 16, None, None, instruction_set
        )
        assert torch.equal(output, torch.full((1, 16), -sign * 127 * 127 * 2**17 / 127))


def test_what_does_not_fit() -> None:
    levels, scale, bias = weights(5, 6)
    panels = kernels.int8_panels(levels)
    for arguments, words in [
        ((torch.randn(2, 70), panels, 5), "the panels of such a weight"),
        ((torch.randn(2, 6), panels, 17), "the panels of such a weight"),
        ((torch.randn(2, 6), panels, 5, scale[:4]), "scale must have 1 or 5"),
        ((torch.randn(2, 6), panels, 5, scale, bias[:4]), "bias must have 5"),
        ((torch.randn(()), panels, 5), "0 < in <= 131072"),
        ((torch.randn(2, 6), panels, 5, None, None, "vax"), "this machine runs"),
    ]:
        with pytest.raises(ValueError, match=words):
            kernels.int8_linear(*arguments)
    with pytest.raises(TypeError, match="input must be float32"):
        kernels.int8_linear(torch.randn(2, 6).double(), panels, 5)
    with pytest.raises(TypeError, match="panels must be contiguous int8"):
        kernels.int8_linear(torch.randn(2, 6), panels.int(), 5)
    with pytest.raises(TypeError, match="whole numbers is int8"):
        kernels.int8_panels(torch.ones(2, 2))
    with pytest.raises(ValueError, match="a weight is"):
        kernels.int8_panels(levels[0])
    with pytest.raises(ValueError, match="does not fit 7 channels"):
        kernels.int8_conv2d(torch.randn(1, 7, 4, 4), panels, (5, 6, 1, 1))


def test_compiled_and_exported() -> None:
    levels, scale, bias = weights(5, 6, 3, 3)

    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            for name, tensor in {"panels": kernels.int8_panels(levels), "scale": scale, "bias": bias}.items():
                self.register_buffer(name, tensor)

        def forward(self, image: Tensor) -> Tensor:
            return kernels.int8_conv2d(image, self.panels, levels.shape, (2, 2), (1, 1), (1, 1), self.scale, self.bias)

    for image in (torch.randn(2, 6, 8, 8), torch.randn(2, 6, 8, 8).to(memory_format=torch.channels_last)):
        expected = Net()(image)
        compiled = torch.compile(Net(), backend="aot_eager", fullgraph=True)(image)
        assert torch.equal(compiled, expected)
        assert compiled.stride() == expected.stride()
        assert torch.equal(torch.export.export(Net(), (image,)).module()(image), expected)
