"""The float network that a command is asked about, by its name or by the code that builds it."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

from proxconnect._support.user_code import LoadError, file_of, guarded, load
from proxconnect.cli.bench import Network, named


def network(path: str) -> Network:
    """The network of a name that timm or torchvision knows, or of MODULE:CALLABLE.

    ValueError for unknown names and for objects that build no network.
    """
    if ":" not in path:
        return named(path)
    build = load(path)
    if isinstance(build, nn.Module) or not callable(build):
        raise LoadError(
            f"{path!r} ({file_of(path)}) is of type {type(build).__name__}: name a callable without arguments that "
            "returns a float nn.Module"
        )
    try:
        inspect.signature(build).bind()
    except TypeError as error:
        raise LoadError(f"{path!r} ({file_of(path)}) must be callable without arguments: {error}") from None
    example = (lambda _: _example(path, build.example)) if hasattr(build, "example") else None
    return Network(path, lambda: _built(path, build), example)


def _built(path: str, build: Callable[[], Any]) -> nn.Module:
    with guarded(f"calling {path}"):
        model = build()
    if not isinstance(model, nn.Module):
        raise LoadError(f"{path!r} must return a float nn.Module; it returned {type(model).__name__}")
    return model


def _example(path: str, example: object) -> Any:
    """The attribute `example` of the callable, if it is an input."""
    if not isinstance(example, Tensor | tuple | Mapping):
        raise LoadError(
            f"{path}.example must be a tensor, a tuple of positional arguments or a mapping of keyword arguments; it "
            f"is of type {type(example).__name__}"
        )
    return example
