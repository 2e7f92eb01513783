"""What a loader may give to train and to count on."""

import torch
from torch import Tensor


def require_batch(images: Tensor, targets: Tensor) -> None:
    """ValueError where images are no floats (N, C, H, W) with N > 0, or targets neither labels nor shares of them."""
    if images.ndim != 4 or not len(images) or not images.is_floating_point():
        raise ValueError(f"the loader gave {_said(images)} for images: they must be standardised floats (N, C, H, W), "
                         "N at least 1")  # fmt: skip
    is_label = targets.ndim == 1 and targets.dtype == torch.int64
    is_share = targets.ndim == 2 and targets.is_floating_point()
    if len(targets) != len(images) or not (is_label or is_share):
        raise ValueError(f"the loader gave {_said(targets)} for the labels of {len(images)} images: they must be int64 "
                         "(N,), or shares of classes, floats (N, classes)")  # fmt: skip


def _said(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"
