"""Contexts of a model that refuse to be called like one, and notice that nobody entered them."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ContextDecorator, contextmanager
from functools import partial, wraps
from typing import Any, Generic, TypeVar

from torch import nn

from proxconnect._support.arguments import require_module

T = TypeVar("T")


def model_context(generator: Callable[[nn.Module], Iterator[T]]) -> Callable[[nn.Module], "ModelContext[T]"]:
    """Make a function of a model that returns a `ModelContext` from a generator, as `contextlib.contextmanager` does.

    The function raises TypeError if its argument is no module.
    """
    name, make = generator.__name__, contextmanager(generator)

    @wraps(generator)
    def context(model: nn.Module) -> ModelContext[T]:
        require_module(model, f"{name}(model)")
        return ModelContext(f"with {name}(model):", partial(make, model))

    return context


class ModelContext(ContextDecorator, Generic[T]):
    """A context of a model, which may also decorate a function. It warns if it is deleted before it was used."""

    _is_used = True

    def __init__(self, written: str, make: Callable[[], AbstractContextManager[T]]) -> None:
        self._written, self._make = written, make
        self._running: list[AbstractContextManager[T]] = []
        self._is_used = False

    def __enter__(self) -> T:
        self._is_used = True
        running = self._make()
        value = running.__enter__()
        self._running.append(running)
        return value

    def __exit__(self, *error: Any) -> bool | None:
        return self._running.pop().__exit__(*error)

    def __call__(self, func: Any = None, *inputs: Any, **options: Any) -> Any:
        """Return `func` as a function that runs in this context; TypeError for the inputs of a model."""
        self._is_used = True
        if inputs or options or not callable(func):
            raise TypeError(f"this is a context, not a model: write `{self._written} y = model(x)`")
        return super().__call__(func)

    def __del__(self) -> None:
        if not self._is_used:
            warnings.warn(f"a context that is not entered changes nothing: write `{self._written}`", stacklevel=2)
