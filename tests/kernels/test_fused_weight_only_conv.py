"""Convolutions of floats with signs and what stands around them in one pass, against the operators one by one."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from proxconnect import kernels
from proxconnect.kernels.bits import pack_bits
from proxconnect.kernels.finish import Finish
from proxconnect.kernels.fused_image_conv import FusedWeightOnlyConv2d
from proxconnect.kernels.steps import Add, Affine, Clamp, Slope

pytestmark = pytest.mark.skipif(not kernels.is_built(), reason="the kernels were not built")

SETS = kernels.instruction_sets() or ("portable",)


@given(
    channels=st.integers(1, 40), outputs=st.sampled_from((1, 7, 16, 70, 130)), groups=st.integers(1, 2),
    kernel=st.tuples(st.integers(1, 3), st.integers(1, 4)), stride=st.integers(1, 3), padding=st.integers(0, 3),
    dilation=st.integers(1, 2), has_planes=st.booleans(), averages=st.booleans(), pools=st.booleans(),
    keeps_order=st.booleans(), rounds=st.booleans(), instruction_set=st.sampled_from(SETS), threads=st.integers(1, 2),
)  # fmt: skip
def test_it_equals_one_after_another(
    channels: int, outputs: int, groups: int, kernel: tuple[int, int], stride: int, padding: int, dilation: int,
    has_planes: bool, averages: bool, pools: bool, keeps_order: bool, rounds: bool, instruction_set: str, threads: int,
) -> None:  # fmt: skip
    memory_format = torch.contiguous_format if has_planes else torch.channels_last
    # Sums of such numbers are exact in any order, and so are means of four.
    input = 4.0 * torch.randint(-9, 10, (2, channels * groups, 19, 20)).float().contiguous(memory_format=memory_format)
    weight = torch.randn(outputs * groups, channels, *kernel)
    panels, n = kernels.patch_panels(pack_bits(weight), weight.shape, groups), len(weight)
    how = (stride, stride), (padding, 0), (1, dilation), groups, torch.randn(n), torch.randn(n)
    slope = torch.rand(n) if keeps_order else torch.randn(n)
    then: tuple[Any, ...] = (Affine(torch.randn(n), torch.randn(n)), Clamp(-3.0, 2.0), Slope(slope))
    mean, pool = nn.AvgPool2d(2) if averages else None, nn.MaxPool2d(3, 2, 1) if pools else None
    operator = kernels.dynamic_int8_conv2d if rounds else kernels.weight_only_conv2d
    sums = operator(input if mean is None else mean(input), panels, weight.shape, *how, instruction_set)
    others: tuple[Tensor, ...] = ()
    if pool is None:
        others, then = (torch.randn_like(sums),), (then[0], Add(), *then[1:])
    expected = Finish(then, n, instruction_set)(sums, *others)
    fused = FusedWeightOnlyConv2d(panels, weight.shape, *how, then, mean, pool, rounds, instruction_set)
    torch.set_num_threads(threads)
    try:
        answer = fused(input, *others)
    finally:
        torch.set_num_threads(1)
    assert answer is not None
    assert torch.equal(answer, expected if pool is None else pool(expected))
    assert answer.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("instruction_set", SETS)
def test_more_entries_than_bytes_are_summed(instruction_set: str) -> None:
    """Rounded images of more than 2¹⁷ channels are multiplied by tables."""
    for channels in (2**17, 2**17 + 3):
        weight = torch.ones(1, channels, 1, 1)
        panels = kernels.patch_panels(pack_bits(weight), weight.shape)
        fused = FusedWeightOnlyConv2d(panels, weight.shape, rounds=True, instruction_set=instruction_set)
        answer = fused(torch.full((1, channels, 1, 1), 127.0))
        assert answer is not None
        assert answer.item() == 127.0 * channels


def test_images_that_lie_anyhow() -> None:
    weight = torch.randn(5, 6, 1, 1)
    panels = kernels.patch_panels(pack_bits(weight), weight.shape)
    image = torch.randint(-9, 10, (2, 6, 9, 7)).float()
    for rounds, stride in ((False, (1, 1)), (True, (1, 1)), (True, (2, 1))):
        fused = FusedWeightOnlyConv2d(panels, weight.shape, stride, rounds=rounds)
        for whole in (image, image.to(memory_format=torch.channels_last), image.mT, image.permute(0, 3, 2, 1)):
            channels = torch.cat([whole, whole], 1)[:, :6].clone(memory_format=torch.preserve_format)
            for input in (channels, channels[:, :, ::2, 1:], channels[:0], channels[:, :, :1, :1], channels[..., :1]):
                assert torch.equal(fused(input), fused(input.contiguous()))  # type: ignore[arg-type]  # not None


def test_weights_that_do_not_fit() -> None:
    weight = torch.randn(6, 5, 3, 3)
    panels = kernels.patch_panels(pack_bits(weight), weight.shape)
    for arguments, words in [
        ((panels, (6, 5, 3)), "a weight is"),
        ((panels, (6, 5, 3, 3), (1, 1), (0, 0), (1, 1), 4), "out a multiple of groups"),
        ((panels, (9, 5, 3, 3)), "the panels of such a weight"),
    ]:
        with pytest.raises(ValueError, match=words):
            FusedWeightOnlyConv2d(*arguments)
