"""Inputs of networks, and answers to them."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from proxconnect._support.example import arguments, tensors_in
from proxconnect.cli.parser import positive


def add_input(add: Callable[..., Any]) -> None:
    """Add the option --input, the shape of an input, with `add`: `add_argument` of a parser or of a group."""
    add("--input", nargs="+", type=positive, action="append", metavar="N", help="shape of an input, the batch first; "
        "again for a second one; default: the network's own")  # fmt: skip


def of_shapes(shapes: Sequence[Sequence[int]]) -> tuple[Tensor, ...]:
    """Return a tensor of normally distributed random floats for each shape; ValueError if memory is short."""
    try:
        return tuple(torch.randn(*shape) for shape in shapes)
    except (RuntimeError, MemoryError):
        raise ValueError(f"there is no memory for an input of {shown(shapes)}: pass a smaller shape") from None


def with_batch(example: Any, size: int) -> Any:
    """Return `example` as a batch of `size`: each tensor repeats its first entry along its first dimension.

    Tensors without dimensions and other values stay as they are.
    """
    return tree_map_only(Tensor, lambda t: t[:1].repeat(size, *[1] * (t.dim() - 1)) if t.dim() else t, example)


def shapes_of(example: Any) -> tuple[tuple[int, ...], ...]:
    """Return the shape of each tensor in `example`, also of those inside lists, mappings and objects."""
    return tuple(tuple(tensor.shape) for tensor in tensors_in(example))


def shown(shapes: Sequence[Sequence[int]]) -> str:
    """Return the shapes as text, as in "1×128 and 1×3×224×224"; a shape without dimensions is "a number"."""
    return " and ".join("×".join(map(str, shape)) or "a number" for shape in shapes) or "no tensor"


def run(model: nn.Module, example: Any) -> Any:
    """Call `model` on `example`: a tensor, a tuple of positional arguments or a mapping of keyword arguments."""
    args, kwargs = arguments(model, example)
    return model(*args, **kwargs)


def require_runs(title: str, model: nn.Module, example: Any) -> None:
    """Run `model` on `example` once, and raise ValueError if that fails; `title` is its name in the message."""
    try:
        run(model, example)
    except Exception as error:
        shapes = shown(shapes_of(example))
        raise ValueError(f"{title} does not take {shapes} ({type(error).__name__}: {error})") from error


def difference(expected: list[Tensor], got: list[Tensor]) -> float:
    """Return the largest absolute difference between the entries of two outputs, given as lists of tensors.

    It is infinity if the shapes or the numbers of tensors differ, and 0 if there are no entries.
    """
    if [t.shape for t in expected] != [t.shape for t in got]:
        return float("inf")
    pairs = zip(expected, got, strict=True)
    return max((float((a.double() - b.double()).abs().max()) for a, b in pairs if a.numel()), default=0.0)
