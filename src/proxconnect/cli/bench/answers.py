"""Answers of networks, and how far they are from one another."""

from typing import Any

from torch import Tensor, nn

from proxconnect._support.example import arguments
from proxconnect.cli.bench.examples import shapes_of, shown


def run(model: nn.Module, example: Any) -> Any:
    """What `model` answers to `example`, which is what `pc.summary` takes."""
    args, kwargs = arguments(model, example)
    return model(*args, **kwargs)


def require_runs(title: str, model: nn.Module, example: Any) -> None:
    """ValueError, in one line or more, where `model` does not take `example`."""
    try:
        run(model, example)
    except Exception as error:
        shapes = shown(shapes_of(example))
        raise ValueError(f"{title} does not take {shapes} ({type(error).__name__}: {error})") from error


def difference(expected: list[Tensor], got: list[Tensor]) -> float:
    """The largest |Δ| of two answers; infinite where they are not of the same shapes."""
    if [t.shape for t in expected] != [t.shape for t in got]:
        return float("inf")
    pairs = zip(expected, got, strict=True)
    return max((float((a.double() - b.double()).abs().max()) for a, b in pairs if a.numel()), default=0.0)
