"""The steps of an epilogue on images of floats that are pooled next."""

from functools import lru_cache

import torch
from torch import Tensor, nn

from proxconnect.kernels.epilogue import PLANS, Add, Epilogue, Step
from proxconnect.kernels.operator import CPU, loaded, resolved
from proxconnect.kernels.remade import Remade
from proxconnect.kernels.window import can_take_the_largest, window_of


class FinishMaxPool2d(Remade):
    """Steps and `nn.MaxPool2d` in one pass over images of floats; NaN makes NaN of every window that meets it.

    Called with x, float32 on the CPU, (N, channels, H, W) in the memory format channels_last; returns (N, channels, H',
    W') in the same. No gradient goes through. Several threads may call at once.

    Raises:
        ValueError: steps that `Add`, a pool with dilation or indices, a shape or a layout that does not fit. TypeError:
            another dtype or device. RuntimeError: the kernels were not built.
    """

    def __init__(
        self, steps: tuple[Step, ...], channels: int, pool: nn.MaxPool2d, instruction_set: str | None = None
    ) -> None:
        self._made_of = (steps, channels, pool, instruction_set)
        if any(isinstance(step, Add) for step in steps) or not can_take_the_largest(pool):
            raise ValueError("there must be no Add among the steps, and neither dilation nor indices in the pool")
        kernels, self._number = loaded(instruction_set)
        self._pool, self._channels = kernels.px_finish_max_pool2d, channels
        self._epilogue = Epilogue(channels, steps, memory_format=torch.channels_last)
        self._windows = lru_cache(PLANS)(lambda height, width: window_of(pool, (height, width)))

    def __call__(self, x: Tensor) -> Tensor:
        """The largest of what the steps make of x."""
        x = resolved("x", x)
        if x.dim() != 4 or x.shape[1] != self._channels or not x.is_contiguous(memory_format=torch.channels_last):
            raise ValueError(
                f"x must be (N, {self._channels}, H, W) in the memory format channels_last; got {tuple(x.shape)} with "
                f"strides {x.stride()}"
            )
        batch, channels, height, width = x.shape
        window, size = self._windows(height, width)
        y = torch.empty((batch, channels, *size), dtype=torch.float32, device=CPU, memory_format=torch.channels_last)
        if y.numel() > 0:
            self._pool(
                self._number, x.data_ptr(), batch, channels, window, self._epilogue.address, y.data_ptr(),
                torch.get_num_threads(),
            )  # fmt: skip
        return y
