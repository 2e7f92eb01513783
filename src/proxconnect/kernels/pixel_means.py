"""Means over all pixels of images, without torch's dispatcher."""

import torch
from torch import Tensor

from proxconnect.kernels.arguments import CPU, resolved
from proxconnect.kernels.epilogue import FusedKernel
from proxconnect.kernels.library import loaded

_CHANNELS = 64
"""The kernel adds in torch's order if the number of channels is a multiple of this."""


class PixelMeans(FusedKernel):
    """A callable for the mean over all pixels of images, added in the order of torch's CPU kernels.

    Call it with x, float32 on the CPU, (N, channels, H, W) in the memory format channels_last. It returns (N,
    channels), or (N, channels, 1, 1) if `keepdim`; None for another layout, and unless `channels` is a multiple of 64.
    Gradients do not flow through.
    """

    def __init__(self, keepdim: bool = False, instruction_set: str | None = None) -> None:
        kernels, self._number = loaded(instruction_set)
        self._means, self._keepdim = kernels.px_pixel_means, keepdim

    def __call__(self, x: Tensor) -> Tensor | None:
        """Return the means of the pixels of x."""
        if x.dim() != 4 or x.dtype is not torch.float32 or not x.is_cpu:
            return None
        x = resolved("x", x)
        batch, channels, height, width = x.shape
        if channels % _CHANNELS or x.numel() == 0 or not x.is_contiguous(memory_format=torch.channels_last):
            return None
        shape = (batch, channels, 1, 1) if self._keepdim else (batch, channels)
        y = torch.empty(shape, dtype=torch.float32, device=CPU)
        threads = torch.get_num_threads()
        self._means(self._number, x.data_ptr(), batch, height * width, channels, y.data_ptr(), threads)
        return y
