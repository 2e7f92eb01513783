"""Copies of what points to memory of its own."""


class Remade:
    """Mixin: copied, and pickled, by making it again with the same arguments, since addresses are no part of a copy."""

    _made_of: tuple[object, ...]
    """The arguments, in the order of `__init__`."""

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), self._made_of
