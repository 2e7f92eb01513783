"""Parameters whose values one case goes through, for tests that take less time than pytest needs for a case."""

import functools
import inspect
from collections.abc import Callable, Iterable
from itertools import product


def looped(**parameters: Iterable[object]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Run a test for every combination of values, in one case; a value that a caller gives by name is not looped.

    A failure has a note of the values. Fixtures, and so the seed, are set once for all of them.
    """
    axes = {name: list(values) for name, values in parameters.items()}

    def decorate(test: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(test)
        def run(**given: object) -> None:
            free = {name: values for name, values in axes.items() if name not in given}
            for values in product(*free.values()):
                chosen = dict(zip(free, values, strict=True))
                try:
                    test(**given, **chosen)
                except Exception as error:
                    error.add_note(f"with {chosen}")
                    raise

        signature = inspect.signature(test)
        left = [parameter for name, parameter in signature.parameters.items() if name not in axes]
        run.__signature__ = signature.replace(parameters=left)  # type: ignore[attr-defined]  # which pytest reads
        del run.__wrapped__  # type: ignore[attr-defined]  # whose parameters pytest would read instead
        return run

    return decorate
