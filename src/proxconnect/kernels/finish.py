"""Epilogue steps by themselves, on floats that torch computed."""

from functools import lru_cache

import torch
from torch import Tensor, nn

from proxconnect.kernels.arguments import CPU, resolved
from proxconnect.kernels.epilogue import PLANS, Epilogue, FusedKernel
from proxconnect.kernels.geometry import can_take_the_largest, window_of
from proxconnect.kernels.library import loaded
from proxconnect.kernels.steps import Step


class Finish(FusedKernel):
    """A callable that runs epilogue steps in one pass over an array of floats.

    Call it with x and the addends of the `Add` steps, which must have the shape and memory format of x. x is float32 on
    the CPU, (…, channels) contiguous or (N, channels, H, W) in the memory format channels_last. It returns a tensor
    like x. Gradients do not flow through.

    Args:
        steps: the epilogue steps, in order.
        channels: the number of channels of x, at least 1.
        instruction_set: one of `instruction_sets()`, by default the best.
        in_place: if True, overwrite x.

    Raises: as in `binary_linear`, and ValueError for another layout.
    """

    def __init__(
        self, steps: tuple[Step, ...], channels: int, instruction_set: str | None = None, in_place: bool = False
    ) -> None:
        if channels < 1:
            raise ValueError(f"there must be at least 1 channel; got {channels}")
        kernels, self._number = loaded(instruction_set)
        self._finish, self._channels, self._in_place = kernels.px_finish, channels, in_place
        self._rows, self._images = (
            Epilogue(channels, steps, memory_format=kind) for kind in (torch.contiguous_format, torch.channels_last)
        )

    def __call__(self, x: Tensor, *others: Tensor) -> Tensor:
        """Return x after all steps, in x if `in_place`, or in a new tensor; `others` are the addends."""
        x = resolved("x", x)
        shape = x.shape
        if len(shape) == 4 and shape[1] == self._channels and x.is_contiguous(memory_format=torch.channels_last):
            epilogue = self._images
        elif len(shape) > 0 and shape[-1] == self._channels and x.is_contiguous():
            epilogue = self._rows
        else:
            raise ValueError(
                f"x must be (…, {self._channels}) and contiguous, or (N, {self._channels}, H, W) in the memory format "
                f"channels_last; got {tuple(shape)} with strides {x.stride()}"
            )
        _others, added = epilogue.added(others, shape)
        out = x if self._in_place else torch.empty_like(x)
        self._finish(
            self._number, x.data_ptr(), x.numel() // self._channels, self._channels, epilogue.address, added,
            out.data_ptr(), torch.get_num_threads(),
        )  # fmt: skip
        return out


class FinishMaxPool2d(FusedKernel):
    """A callable that runs epilogue steps and `nn.MaxPool2d` in one pass; windows that contain NaN become NaN.

    Call it with x, float32 on the CPU, (N, channels, H, W) in the memory format channels_last. It returns (N, channels,
    H', W') in the same format. Gradients do not flow through.

    Args:
        steps, channels, instruction_set: as in `Finish`, but without `Add` steps.
        pool: the max pool, without dilation and indices.

    Raises: as in `Finish`, and ValueError for `Add` steps and for a pool with dilation or indices.
    """

    def __init__(
        self, steps: tuple[Step, ...], channels: int, pool: nn.MaxPool2d, instruction_set: str | None = None
    ) -> None:
        self._epilogue = Epilogue(channels, steps, memory_format=torch.channels_last)
        if self._epilogue.adds or not can_take_the_largest(pool):
            raise ValueError("there must be no Add among the steps, and neither dilation nor indices in the pool")
        kernels, self._number = loaded(instruction_set)
        self._pool, self._channels = kernels.px_finish_max_pool2d, channels
        self._windows = lru_cache(PLANS)(lambda height, width: window_of(pool, (height, width)))

    def __call__(self, x: Tensor) -> Tensor:
        """Return the max pool of x after all steps."""
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
