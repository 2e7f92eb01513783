"""What all fused kernels share: they are made once, and called often without torch's dispatcher."""


class FusedKernel:
    """A C function with all that a call passes but inputs and outputs. Several threads may call it at once.

    It is copied, and pickled, by making it again with the same arguments, since addresses are no part of a copy.
    """

    _made_of: tuple[object, ...]
    """The arguments, in the order of `__init__`."""

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), self._made_of
