"""The base of the kernels that are built once and then called without torch's dispatcher."""

from inspect import signature
from typing import Any, Self


class FusedKernel:
    """A C function with its weights and steps, to be called with inputs. Several threads may call it at once.

    Copying and pickling build it again from the same arguments, because it holds addresses.
    """

    _made_of: tuple[object, ...]
    """The arguments of the constructor, in its order."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """Keep the arguments for copies and pickles."""
        new = super().__new__(cls)
        bound = signature(cls.__init__).bind(new, *args, **kwargs)
        bound.apply_defaults()
        new._made_of = (*bound.arguments.values(),)[1:]
        return new

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), self._made_of
